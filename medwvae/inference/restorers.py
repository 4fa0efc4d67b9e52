"""Restoration networks over whole volumes: slices and volumes by the same code."""

from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from medwvae.inference.footprint import Footprint, measure
from medwvae.inference.whole import Source, infer, window
from medwvae.nets.restorer import Restorer
from medwvae.operators import Measurement, magnitude
from medwvae.volumetric import as_volumes, is_local, taken

Flips = tuple[tuple[int, ...], ...]


def footprint_of(model: Restorer, measurement: Measurement) -> Footprint:
    """Return the footprint of a network on a volume (S, H, W), told beside the image what `measurement` knows."""
    if model.dims == 2:  # slices stay whole, and know nothing of others than their neighbours
        return Footprint((1, *model.alignment()), (model.neighbours, None, None))
    device = next(model.parameters()).device

    def told(x: Tensor | None) -> Tensor | None:
        return None if x is None else x[:1].reshape(1, *x.shape[1:2], *[1] * (model.dims * (x.ndim > 1))).to(device)

    def answer(image: Tensor) -> Tensor:
        plain = Measurement(
            image.to(device),
            sigma=told(measurement.sigma),
            law=measurement.law,
            maximum=told(measurement.maximum),
            label=told(measurement.label),
        )
        return cast(Tensor, model(plain).image)

    return measure(answer, model.alignment(), measurement.start.shape[1])


def restore_volume(
    model: Restorer,
    measurement: Measurement,
    flips: Flips = ((),),
    *,
    footprint: Footprint | None = None,
    max_memory: int | None = None,
    slices: int | None = None,
    mixed: torch.dtype | None = None,
) -> Tensor:
    """Restore the slices (S, C, H, W) of one acquisition: the magnitude (S, 1, H, W).

    The model computes on the device that it is on, in evaluation mode. Where samples of k-space are known, a slice
    stays whole, for they concern all of its voxels.

    Parameters
    ----------
    flips : tuple of tuple of int
        See `Restorer.restore`.
    footprint : Footprint, optional
        Of the network; measured where it is not given.
    max_memory : int, optional
        See `whole.infer`.
    slices : int, optional
        The most slices of one step of a network on slices.
    mixed : torch.dtype, optional
        Type of autocast; None for float32.
    """
    footprint = footprint or footprint_of(model, measurement)
    volume, local = model.dims == 3, is_local(measurement)
    count, _, *plane = measurement.start.shape

    def read(index: tuple[slice, ...]) -> Measurement:
        sections, *place = index
        beyond = sections.stop > count
        part = measurement[sections] if not beyond else taken(measurement, _clamped(sections, count))
        if local:
            part = replace(part, start=window(part.start, place, (2, 3)))
        return as_volumes([part]) if volume else part.with_neighbours(model.neighbours)

    device = next(model.parameters()).device

    def compute(piece: Measurement) -> Tensor:
        with torch.autocast(device.type, dtype=mixed, enabled=mixed is not None):
            return magnitude(model.restore(piece, flips)).movedim(1, 0)[0]

    shape = (count, *plane)
    out = np.empty(shape, np.float32)
    infer(
        compute,
        Source(shape, read),
        out,
        footprint,
        device=device,
        max_memory=max_memory,
        divisible=(True, volume and local, volume and local),
        largest=(None if volume else slices, None, None),
    )
    return torch.from_numpy(out)[:, None]


def _clamped(part: slice, size: int) -> Tensor:
    return torch.arange(part.start, part.stop).clamp(max=size - 1)


def mirrored(dims: int) -> Flips:
    """Return the axes of every mirrored copy of an image or a volume: 4 or 8."""
    copies: list[tuple[int, ...]] = [()]
    for axis in range(-1, -dims - 1, -1):
        copies += [(*copy, axis) for copy in copies]
    return tuple(copies)
