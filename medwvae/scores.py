"""Every number of a restored volume: the protocol's three, and whatever else of `medwvae.metrics` was asked for."""

from collections.abc import Collection, Iterator

import numpy as np

from medwvae.intensity import LinearScaling
from medwvae.metrics import (
    Array,
    Mask,
    edge_sharpness,
    gradient_error,
    hfen,
    hu_bias,
    hu_noise,
    lesion_contrast,
    ms_ssim,
    noise_power,
    subband_errors,
)
from medwvae.metrics.ct import tissue_masks
from medwvae.metrics.definitions import definition
from medwvae.metrics.similarity import GAUSSIAN_TAPS
from medwvae.metrics.voxels import UndefinedError
from medwvae.names import Metric, Region
from medwvae.protocols import Protocol, Score, score, scored_slices


def scores_of(
    protocol: Protocol,
    x: Array,
    ref: Array,
    head: Mask,
    *,
    metrics: Collection[Metric],
    regions: Collection[Region],
    lesion: Mask | None = None,
    scaling: LinearScaling | None = None,
) -> list[Score]:
    """Score a restored volume. With a window in the protocol, every metric sees both volumes through it.

    Parameters
    ----------
    x, ref : array of float, (slices, H, W)
        Restored and true volume, in the same units.
    head, lesion : array of bool, (slices, H, W)
        With a lesion, there is the region 'lesion', and its contrast.
    metrics : collection of Metric
        'ct' is of `ct_scores`, which sees no window. A metric that is not defined for a volume (the truth has nothing
        there) has no row.
    scaling : LinearScaling, optional
        See `Protocol.seen`.
    """
    wanted: dict[Region, Mask | None] = {"head": head, "whole": None}
    if lesion is not None and lesion.any():
        wanted["lesion"] = lesion
    found = score(protocol, x, ref, head, wanted.get("lesion"), scaling)
    x, ref = protocol.seen(x, scaling), protocol.seen(ref, scaling)
    for region, mask in wanted.items():
        if region in regions:
            found += _more(protocol, x, ref, mask, region, metrics)
    if "lesion" in wanted and (kept := lesion_contrast(x, ref, lesion=wanted["lesion"], head=head)) is not None:  # type: ignore[arg-type]
        found.append(_score("lesion", "lesion_contrast", kept))
    return [
        s for s in found if s.region in regions and (s.metric not in ("psnr", "ssim", "nmse") or s.metric in metrics)
    ]


def ct_scores(x: Array, ref: Array, head: Mask, spacing: tuple[float, float]) -> list[Score]:
    """Score the CT numbers of a restored volume, all in the region 'head'; of tissues that the truth has.

    Parameters
    ----------
    x, ref : array of float, (slices, H, W), HU
    head : array of bool, (slices, H, W)
    spacing : (float, float)
        mm along H and W.
    """
    found = []
    masks = tissue_masks(ref, head)
    for tissue, mask in masks.items():
        found.append(_score("head", f"hu_bias_{tissue}", hu_bias(x, ref, mask=mask)))
        found.append(_score("head", f"hu_noise_{tissue}", hu_noise(x, ref, mask=mask)))
    if "soft" in masks:
        spectrum = noise_power(x, ref, mask=masks["soft"], spacing=spacing)
        if spectrum is not None and spectrum.variance > 0:
            found.append(_score("head", "nps_mean_soft", spectrum.mean_frequency))
    return found


def _more(
    protocol: Protocol, x: Array, ref: Array, mask: Mask | None, region: Region, metrics: Collection[Metric]
) -> Iterator[Score]:
    simple = {"gradient_error": gradient_error, "hfen": hfen, "edge_sharpness": edge_sharpness}
    for name, function in simple.items():
        if name in metrics:
            try:
                yield _score(region, name, function(x, ref, dims=2, mask=mask))
            except UndefinedError:  # a truth without any detail in the region
                continue
    if "ms_ssim" in metrics and min(x.shape[-2:]) >= GAUSSIAN_TAPS:
        yield from _multiscale(protocol, x, ref, mask, region)
    if "subbands" in metrics:
        for band, error in subband_errors(x, ref, dims=2, mask=mask).items():
            yield _score(region, f"subband_{band}", error)


def _multiscale(protocol: Protocol, x: Array, ref: Array, mask: Mask | None, region: Region) -> Iterator[Score]:
    """Yield the MS-SSIM under the protocol's data range: the volume's, or each slice's own."""
    if protocol.averaging != "image":
        yield _score(region, "ms_ssim", ms_ssim(x, ref, data_range=protocol.range_of(ref, x), dims=2, mask=mask))
        return
    # One box for all slices, or they would differ in their scales.
    shadow = None if mask is None else np.asarray(mask.any(0))
    values = [
        ms_ssim(x[k], ref[k], data_range=protocol.range_of(ref[k], x[k]), dims=2, mask=shadow)
        for k in scored_slices(protocol, x, ref)
        if mask is None or ref[k][mask[k]].any()
    ]
    if values:
        yield _score(region, "ms_ssim", float(np.mean(values)))


def _score(region: Region, metric: str, value: float) -> Score:
    return Score(region, metric, value, definition(metric).unit)
