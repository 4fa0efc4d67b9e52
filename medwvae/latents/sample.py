"""Images from the prior: as many as wanted, each from a seed of its own."""

import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medwvae.data import nifti
from medwvae.nets.latent import Latent, LatentModel
from medwvae.seeding import seed_for


@torch.no_grad()
def sample(
    model: LatentModel,
    count: int,
    shape: tuple[int, ...],
    *,
    seed: int = 0,
    label: int | None = None,
    temperature: float = 1.0,
    batch: int = 32,
) -> Tensor:
    """Draw images: the mean of p(x | z) for z from the prior.

    Sample k is drawn from the seed (`seed`, k) alone: neither `count` nor `batch` changes it, beyond the rounding of
    batched convolutions.

    Parameters
    ----------
    model : LatentModel
        Trained; in evaluation mode, or layers that depend on the batch will act as in training.
    count, batch : int
        Images, and how many of them are decoded at once.
    shape : tuple of int
        Spatial shape, as many axes as the model has.
    label : int, optional
        Class of all samples; needed by a model with classes.
    temperature : float
        Factor of the prior's spread: 1 is the prior, 0 its mode.

    Returns
    -------
    Tensor
        (count, C, *shape), float32, network units, on the CPU.

    Raises
    ------
    ValueError
        If count, shape, label or temperature do not fit the model.
    """
    if count < 1 or batch < 1:
        raise ValueError(f"need at least one sample and one image per batch, got {count} and {batch}")
    if len(shape) != model.dims or min(shape) < 1:
        raise ValueError(f"the model makes images with {model.dims} spatial axes, not of shape {shape}")
    if not (math.isfinite(temperature) and temperature >= 0):
        raise ValueError(f"the temperature is {temperature}; it has to be a number from 0 on")
    labels = labels_for(model, label, 1)
    device = model.log_sigma.device
    images = []
    for first in range(0, count, batch):
        drawn = []
        for k in range(first, min(first + batch, count)):
            generator = torch.Generator(device).manual_seed(seed_for(seed, "sample", k))
            drawn.append(model.draw(1, shape, generator, labels, temperature))
        z: Latent = tuple(torch.cat(parts) for parts in zip(*drawn, strict=True))
        many = None if labels is None else labels.expand(len(drawn))
        images.append(model.decode(z, shape, many).float().cpu())
    return torch.cat(images)


def labels_for(model: LatentModel, label: int | None, count: int) -> Tensor | None:
    """Return the labels of `count` images of one class, int64 (count,), or None for a model without classes.

    Raises
    ------
    ValueError
        If the model has no such class, or has classes and none is named.
    """
    if model.classes == 0:
        if label is not None:
            raise ValueError(f"the model has no classes, so there is no class {label}")
        return None
    if label is None or not 0 <= label < model.classes:
        raise ValueError(f"name one of the model's classes, 0 to {model.classes - 1}; got {label}")
    return torch.full((count,), label, dtype=torch.int64, device=model.log_sigma.device)


def write_volume(path: Path, image: Tensor, affine: NDArray[np.float64]) -> None:
    """Write one generated volume (1, X, Y, Z) or (X, Y, Z) as NIfTI, float32, in network units.

    Raises
    ------
    ValueError
        If it is no volume: slices that were drawn one by one belong to different heads, and make none.
    """
    volume = image.squeeze(0) if image.ndim == 4 else image
    if volume.ndim != 3:
        raise ValueError(
            f"only a 3D model's samples are volumes, got shape {tuple(image.shape)}: slices drawn one by one belong to "
            "different heads"
        )
    nifti.write(path, np.ascontiguousarray(volume.float().numpy()), affine)
