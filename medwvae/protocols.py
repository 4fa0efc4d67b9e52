"""Evaluation protocols: everything that a PSNR or an SSIM needs beside the two images, under one name.

A number without its protocol cannot be compared: on one noisy pair the usual SSIMs differ by a fifth.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np

from medwvae.intensity import LinearScaling
from medwvae.metrics.similarity import UNIFORM_TAPS, SsimKind, ssim_map
from medwvae.metrics.voxels import Array, Mask, UndefinedError, masked_mean, nmse, psnr
from medwvae.names import Region

DataRange = Literal["volume maximum", "joint span", "image span", "unit"]
WINDOWS: Final[Mapping[str, tuple[float, float]]] = {
    "chest": (-600.0, 1500.0),
    "abdomen": (50.0, 400.0),
    "neuro": (40.0, 80.0),
}
"""Centre and width in HU of the windows through which low-dose CT is scored."""


class Score(NamedTuple):
    """One value of `metrics.csv`."""

    region: Region
    metric: str
    value: float
    unit: str


@dataclass(frozen=True)
class Protocol:
    """How a restored volume is compared with the truth. Slices lie along axis 0; the subject's volume is the unit.

    Attributes
    ----------
    name, description : str
        The name tables print, and the sentence that explains it.
    data_range : {'volume maximum', 'joint span', 'image span', 'unit'}
        Rule that gives the data range: maximum of the true volume; maximum less minimum of both images (as the Calgary
        challenge has it, the only rule that looks at the image under test); maximum less minimum of the true image;
        1.
    ssim_kind, ssim_dims
        Window of the SSIM, see `medwvae.metrics.ssim_map`.
    averaging : {'volume', 'slice', 'image'}
        'volume' and 'slice': PSNR and NMSE come from the squared error of the whole volume; the SSIM map is averaged
        over the volume's voxels either way, 'slice' says that this is the mean of the slices' SSIM (as in fastMRI).
        'image': every slice has its own range and scores, and the mean over slices is the volume's.
    rim : bool
        Whether the SSIM of the whole region counts the rim of half a window, which scikit-image's scalar leaves out.
    window : (float, float) or None
        Centre and width in HU of a window (DICOM PS3.3 C.11.2.1.2) through which both images pass first, to [0, 1].
    """

    name: str
    description: str
    data_range: DataRange
    ssim_kind: SsimKind
    ssim_dims: Literal[2, 3]
    averaging: Literal["volume", "slice", "image"]
    rim: bool = True
    window: tuple[float, float] | None = None

    def range_of(self, ref: Array, x: Array | None = None) -> float:
        """Return the data range of the true volume or image `ref`; 'joint span' also looks at the restored `x`.

        Raises
        ------
        ValueError
            If the rule needs the restored image and there is none.
        """
        if self.data_range == "unit":
            return 1.0
        if self.data_range == "volume maximum":
            return float(ref.max())
        if self.data_range == "image span":
            return float(ref.max()) - float(ref.min())
        if x is None:
            raise ValueError(f"protocol {self.name}: the range is that of both images together")
        return float(max(ref.max(), x.max())) - float(min(ref.min(), x.min()))

    def seen(self, image: Array, scaling: LinearScaling | None = None) -> Array:
        """Return what is scored of an image: itself, or what the protocol's window shows of it.

        `scaling` is undone before the window; without one the image is in HU.
        """
        if self.window is None:
            return image
        return windowed(image if scaling is None else scaling.invert(image), *self.window)


def _volume(name: str, description: str, dims: Literal[2, 3] = 2) -> Protocol:
    """Range: maximum of the true volume; SSIM of Gaussian windows."""
    rule = f"{description}; range: maximum of the true volume; SSIM Gaussian 11, {dims}D."
    return Protocol(name, rule, "volume maximum", "gaussian", dims, "volume")


PROTOCOLS: Final[Mapping[str, Protocol]] = {
    protocol.name: protocol
    for protocol in (
        _volume("ixi-td", "In-plane super-resolution, truncated k-space"),
        _volume("ixi-bd", "In-plane super-resolution, bicubic reduction"),
        _volume("through-plane", "Thick slices to thin ones, with a slice profile"),
        _volume("brainweb-rician", "Denoising of Rician magnitude noise", 3),
        _volume("brainweb-gaussian", "Denoising of additive Gaussian noise", 3),
        _volume("poisson", "Denoising of Poisson noise", 3),
        _volume("sparse-view", "Reconstruction from few views"),
        _volume("inpainting", "Lost pixels filled in"),
        Protocol(
            "fastmri",
            "Cartesian undersampling; range: maximum of the true volume; SSIM uniform 7, mean over slices.",
            "volume maximum",
            "uniform",
            2,
            "slice",
            rim=False,
        ),
        Protocol(
            "calgary",
            "Poisson-disc undersampling, several coils; range: span of both images; SSIM uniform 7; mean over slices.",
            "joint span",
            "uniform",
            2,
            "image",
            rim=False,
        ),
        Protocol(
            "lodopab",
            "Low-dose parallel-beam CT; range: span of the true image; SSIM uniform 7; mean over images.",
            "image span",
            "uniform",
            2,
            "image",
            rim=False,
        ),
        Protocol(
            "lodopab-fr",
            "Low-dose parallel-beam CT; range: 1 (images in [0, 1]); SSIM uniform 7; mean over images.",
            "unit",
            "uniform",
            2,
            "image",
            rim=False,
        ),
        *(
            Protocol(
                f"ldct-{name}",
                f"Low-dose CT through the {name} window {window[0]:g}/{window[1]:g} HU; range: 1; SSIM uniform 7; "
                "mean over slices.",
                "unit",
                "uniform",
                2,
                "image",
                rim=False,
                window=window,
            )
            for name, window in WINDOWS.items()
        ),
    )
}


def windowed(image: Array, centre: float, width: float) -> Array:
    """Return an image in HU through a display window, [0, 1] (DICOM PS3.3 C.11.2.1.2.1, function LINEAR).

    Raises
    ------
    ValueError
        If the width is not above 1.
    """
    if not width > 1:
        raise ValueError(f"a window is wider than 1 HU, not {width:g}")
    return np.asarray(np.clip((image - (centre - 0.5)) / (width - 1) + 0.5, 0, 1), image.dtype)


def score(
    protocol: Protocol,
    x: Array,
    ref: Array,
    head: Mask,
    lesion: Mask | None = None,
    scaling: LinearScaling | None = None,
) -> list[Score]:
    """Score a restored volume inside the head, over the whole volume, and in its lesions where they are known.

    Parameters
    ----------
    x, ref : array of float, (slices, H, W)
        Restored and true magnitude volume, in the same units.
    head, lesion : array of bool, (slices, H, W)
    scaling : LinearScaling, optional
        See `Protocol.seen`.

    Returns
    -------
    list of Score
        PSNR (dB), SSIM and NMSE (no unit) for each region; no NMSE where the truth is zero. The SSIM window sees voxels
        outside the head; only the mean of its map is restricted.

    Raises
    ------
    ValueError
        If no slice can be scored (all constant), for protocols that score each by itself.
    """
    x, ref = protocol.seen(x, scaling), protocol.seen(ref, scaling)
    if protocol.averaging != "image":
        return _score(protocol, x, ref, head, lesion, protocol.range_of(ref, x))
    values: dict[Score, list[float]] = {}
    for k in scored_slices(protocol, x, ref):
        own = slice(k, k + 1)
        data_range = protocol.range_of(ref[k], x[k])
        of_slice = _score(protocol, x[own], ref[own], head[own], None if lesion is None else lesion[own], data_range)
        for item in of_slice:
            values.setdefault(item._replace(value=0.0), []).append(item.value)
    if not values:
        raise ValueError(f"protocol {protocol.name}: every slice of the truth is blank")
    return [key._replace(value=float(np.mean(found))) for key, found in values.items()]


def scored_slices(protocol: Protocol, x: Array, ref: Array) -> list[int]:
    """Return the slices that a protocol scores each by itself: a blank one has neither a range nor an energy."""
    return [k for k in range(len(ref)) if ref[k].any() and protocol.range_of(ref[k], x[k]) > 0]


def _score(protocol: Protocol, x: Array, ref: Array, head: Mask, lesion: Mask | None, data_range: float) -> list[Score]:
    similarity = ssim_map(x, ref, data_range=data_range, kind=protocol.ssim_kind, dims=protocol.ssim_dims)
    rim = 0 if protocol.rim else UNIFORM_TAPS // 2
    inner = similarity[..., rim : similarity.shape[-2] - rim, rim : similarity.shape[-1] - rim]
    regions: tuple[tuple[Region, Mask | None], ...] = (("head", head), ("whole", None))
    if lesion is not None:
        regions += (("lesion", lesion),)
    scores = []
    for region, mask in regions:
        if mask is not None and protocol.averaging == "image" and not ref[mask].any():
            continue  # a slice beyond the region, or with nothing in the window
        scores += [
            Score(region, "psnr", psnr(x, ref, data_range=data_range, mask=mask), "dB"),
            Score(region, "ssim", masked_mean(inner) if mask is None else masked_mean(similarity, mask), ""),
        ]
        with suppress(UndefinedError):  # a truth that is zero in all of the region: a dark lesion
            scores.append(Score(region, "nmse", nmse(x, ref, mask=mask), ""))
    return scores
