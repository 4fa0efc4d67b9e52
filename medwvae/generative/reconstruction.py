"""How near a reconstruction is to its image, per subject."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from medwvae.generative.images import Images
from medwvae.metrics.similarity import ssim_map
from medwvae.metrics.voxels import masked_mean, psnr
from medwvae.nets.latent import LatentModel


class Score(NamedTuple):
    """One value of one subject."""

    subject: str
    region: str
    metric: str
    value: float
    unit: str


@torch.no_grad()
def reconstructed(model: LatentModel, images: Tensor, batch: int, labels: Tensor | None = None) -> Tensor:
    """Return the reconstruction of every image, (N, C, H, W), on the CPU."""
    device = model.log_sigma.device
    return torch.cat(
        [
            model.reconstruct(part.to(device), None if own is None else own.to(device)).float().cpu()
            for part, own in batches(images, labels, batch)
        ]
    )


def batches(images: Tensor, labels: Tensor | None, batch: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield images with their labels, so many at a time."""
    for start in range(0, len(images), batch):
        yield images[start : start + batch], None if labels is None else labels[start : start + batch]


def score_reconstruction(images: Images, answer: Tensor) -> list[Score]:
    """Score reconstructions: MSE (squared network units), PSNR (dB) and SSIM in the head, if any, and over all.

    As `medwvae.protocols.score` of protocol `ixi-td`, over the images of a volume: the squared error of all of
    them; the data range is the maximum of the true volume; SSIM Gaussian 11, 2D. Volumes of a subject are averaged.
    """
    scores = []
    for volume in dict.fromkeys(images.volumes):
        chosen, subject, maximum = images.of(volume), images.subject_of(volume), images.maxima[volume]
        truth, x = images.values[chosen].numpy(), answer[chosen].numpy()
        similarity = ssim_map(x, truth, data_range=maximum, kind="gaussian", dims=2)
        squares = (x.astype(np.float64) - truth) ** 2
        regions: list[tuple[str, NDArray[np.bool_] | None]] = [("whole", None)]
        if images.head is not None:
            regions.insert(0, ("head", images.head[chosen].expand(truth.shape).numpy()))
        for region, mask in regions:
            scores += [
                Score(subject, region, "mse", masked_mean(squares, mask), ""),
                Score(subject, region, "psnr", psnr(x, truth, data_range=maximum, mask=mask), "dB"),
                Score(subject, region, "ssim", masked_mean(similarity, mask), ""),
            ]
    return scores


def score_details(images: Images, answer: Tensor) -> list[Score]:
    """Compare the wavelet details of reconstructions with those of their images, over the images of a volume.

    `energy_<subband>` is the energy that is kept, of each subband (`energy_dd1`) and of the finest level together
    (`energy_high`): 1 is all of it, and noise counts as energy. `detail_high` is the share that is truly there, 1 less
    the squared error over the energy. See `medwvae.fidelity.spectrum.energy_kept`.
    """
    from medwvae.fidelity.spectrum import energy_kept

    scores = []
    for volume in dict.fromkeys(images.volumes):
        chosen, subject = images.of(volume), images.subject_of(volume)
        bands = energy_kept(answer[chosen], images.values[chosen])
        found = {f"energy_{name}": band.kept for name, band in bands.items()} | {"detail_high": 1 - bands["high"].error}
        scores += [Score(subject, "whole", name, value, "") for name, value in found.items() if math.isfinite(value)]
    return scores


def per_subject(images: Images, metric: str, values: Tensor, unit: str) -> list[Score]:
    """Return the mean of one value per image over each volume."""
    return [
        Score(images.subject_of(volume), "whole", metric, float(values[images.of(volume)].mean()), unit)
        for volume in dict.fromkeys(images.volumes)
    ]


def table(scores: list[Score], model: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row per subject, region and metric, volumes of a subject averaged, beside what names the model."""
    rows = pd.DataFrame(scores, columns=list(Score._fields))
    keys = ["subject", "region", "metric", "unit"]
    rows = rows.groupby(keys, sort=False)["value"].mean().reset_index()[list(Score._fields)]
    for place, (name, value) in enumerate(model.items()):
        rows.insert(place, name, value)
    return rows
