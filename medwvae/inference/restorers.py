"""Restoration networks over whole volumes: slices and volumes by the same code."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from math import ceil
from typing import Self, cast

import numpy as np
import torch
from torch import Tensor

from medwvae.inference.footprint import Footprint, measure
from medwvae.inference.whole import Source, infer, window
from medwvae.nets.restorer import Restorer
from medwvae.operators import Masking, Measurement, magnitude
from medwvae.seeding import seed_for
from medwvae.volumetric import as_volumes, taken

Flips = tuple[tuple[int, ...], ...]


def footprint_of(model: Restorer, measurement: Measurement, *, spread: bool = False) -> Footprint:
    """Return the footprint of a network on a volume (S, H, W), told beside the image what `measurement` knows.

    With `spread` that of its posterior, whose scales may see further than its answer. It is measured on a CPU wherever
    the model is: algorithms of a card may carry what is not a number over a whole tile, and tiles are the same
    everywhere.
    """
    if model.dims == 2:  # slices stay whole, and are given the neighbours that they read
        return Footprint((1, *model.alignment()), (0, None, None))
    cpu = torch.device("cpu")
    model = model if next(model.parameters()).device == cpu else deepcopy(model).to(cpu)

    def told(x: Tensor | None) -> Tensor | None:
        return None if x is None else x[:1].reshape(1, *x.shape[1:2], *[1] * (model.dims * (x.ndim > 1))).to(cpu)

    # A network that reads which pixels are known is told so of all; without data nothing is projected onto them.
    known = Masking(torch.ones((1,) * (2 + model.dims), dtype=torch.bool), model.dims) if model.mask else None

    def answer(image: Tensor) -> Tensor:
        plain = Measurement(
            image,
            operator=known,
            sigma=told(measurement.sigma),
            law=measurement.law,
            maximum=told(measurement.maximum),
            label=told(measurement.label),
            noise=told(measurement.noise),
        )
        if spread:
            return model.posterior(plain).draw(torch.zeros_like(plain.start))
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

    def restored(piece: Piece) -> Tensor:
        answer = magnitude(model.restore(piece.measurement, flips)).movedim(1, 0)
        return answer[:, 0] if model.dims == 3 else answer

    return _restored(model, measurement, restored, 1, footprint, max_memory, slices, mixed)[0]


def restore_volume_with_spread(
    model: Restorer,
    measurement: Measurement,
    flips: Flips = ((),),
    *,
    draws: int,
    seed: int,
    footprint: Footprint | None = None,
    max_memory: int | None = None,
    slices: int | None = None,
    mixed: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """Return what `restore_volume` returns, and the standard deviation of every voxel, both (S, 1, H, W).

    Of a network that is `uncertain`; see `Restorer.restore_with_spread`. Noise belongs to a slice and a place in it: it
    follows from `seed` alone, not from the tiles or the batches.
    """
    step, channels = model.alignment(), measurement.start.shape[1]
    plane = [ceil(size / own) * own for size, own in zip(measurement.start.shape[2:], step[-2:], strict=True)]

    def restored(piece: Piece) -> Tensor:
        def noise(draw: int) -> Tensor:
            sections = [
                torch.randn(channels, *plane, generator=torch.Generator().manual_seed(seed_for(seed, draw, k)))
                for k in range(*piece.sections(step[0] if model.dims == 3 else 1))
            ]
            rows, columns = (
                slice(part.start, ceil(part.stop / own) * own)
                for part, own in zip(piece.place[1:], step[-2:], strict=True)
            )
            field = torch.stack(sections)[..., rows, columns]
            return (field.movedim(0, 1)[None] if model.dims == 3 else field).to(piece.measurement.start.device)

        answer, spread = model.restore_with_spread(piece.measurement, flips, draws, noise)
        both = torch.cat((magnitude(answer), spread), dim=1).movedim(1, 0)
        return both[:, 0] if model.dims == 3 else both

    footprint = footprint or footprint_of(model, measurement, spread=True)
    found = _restored(model, measurement, restored, 2, footprint, max_memory, slices, mixed)
    return found[0], found[1]


@dataclass
class Piece:
    """A part of a volume for a network, and where it lies (spatial slices, which may end beyond the volume)."""

    measurement: Measurement
    place: tuple[slice, ...]

    def to(self, device: torch.device) -> Self:
        """Move to a device."""
        return replace(self, measurement=self.measurement.to(device))

    def sections(self, step: int) -> tuple[int, int]:
        """Return the first slice and the one behind the last, up to a whole multiple of `step` slices."""
        start, stop = self.place[0].start, self.place[0].stop
        return start, start + ceil((stop - start) / step) * step


def _restored(
    model: Restorer,
    measurement: Measurement,
    restored: Callable[[Piece], Tensor],
    maps: int,
    footprint: Footprint | None,
    max_memory: int | None,
    slices: int | None,
    mixed: torch.dtype | None,
) -> Sequence[Tensor]:
    """Return so many maps (S, 1, H, W) of a volume; `restored` gives them of a piece, (maps, *spatial)."""
    footprint = footprint or footprint_of(model, measurement)
    volume, local = model.dims == 3, measurement.local
    count, _, *plane = measurement.start.shape

    def read(index: tuple[slice, ...]) -> Piece:
        sections, *place = index
        beyond = sections.stop > count
        part = measurement[sections] if not beyond else taken(measurement, _clamped(sections, count))
        if local:
            part = replace(part, start=window(part.start, place, (2, 3)))
        if model.neighbours and measurement.neighbours is None:
            part = _among_neighbours(measurement, sections, model.neighbours)
        return Piece(as_volumes([part]) if volume else part, index)

    device = next(model.parameters()).device

    def compute(piece: Piece) -> Tensor:
        with torch.autocast(device.type, dtype=mixed, enabled=mixed is not None):
            return restored(piece)

    shape = (count, *plane)
    out = np.full((maps, *shape), np.nan, np.float32)  # not empty: its pages are to be there when memory is planned
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
    return tuple(torch.from_numpy(one)[:, None] for one in out)


def _among_neighbours(measurement: Measurement, sections: slice, count: int) -> Measurement:
    """Return some slices of an acquisition with `count` neighbours on either side, which are not restored with them."""
    begin = max(sections.start - count, 0)
    wider = measurement[begin : sections.stop + count].with_neighbours(count)
    return wider[sections.start - begin : sections.stop - begin]


def _clamped(part: slice, size: int) -> Tensor:
    return torch.arange(part.start, part.stop).clamp(max=size - 1)


def mirrored(dims: int) -> Flips:
    """Return the axes of every mirrored copy of an image or a volume: 4 or 8."""
    copies: list[tuple[int, ...]] = [()]
    for axis in range(-1, -dims - 1, -1):
        copies += [(*copy, axis) for copy in copies]
    return tuple(copies)
