"""Volumes instead of batches of slices: the same measurements, as networks with three axes read them.

The physics of a task stays that of the slices: of a volume (or of a part of it) all slices are one acquisition.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from medwvae.degradation import Degradation, Simulated
from medwvae.operators import Measurement


def on_tensors(measurement: Measurement, function: Callable[[Tensor], Tensor]) -> Measurement:
    """Apply a function to every tensor of a measurement."""
    found = {field.name: getattr(measurement, field.name) for field in fields(measurement)}
    changes: dict[str, Any] = {name: function(x) for name, x in found.items() if isinstance(x, Tensor)}
    return replace(measurement, **changes)


def as_volume(measurement: Measurement) -> Measurement:
    """Turn a measurement of S slices (S, C, H, W) into that of one volume, (1, C, S, H, W).

    What all slices share, with one entry, stays one entry; a label is that of the first slice.
    """
    return on_tensors(measurement, lambda x: x[:1] if x.ndim == 1 else to_volume(x))


def to_volume(slices: Tensor) -> Tensor:
    """(S, C, H, W) to (1, C, S, H, W)."""
    return slices.movedim(0, 1)[None]


def to_slices(volume: Tensor) -> Tensor:
    """Undo `to_volume`."""
    return volume[0].movedim(1, 0)


def volumetric(degrade: Degradation) -> Degradation:
    """Return a degradation of volumes (B, 1, S, H, W) by that of slices; each volume is one acquisition."""

    def simulate(image: Tensor, maximum: Tensor, generator: torch.Generator, shared: bool) -> Simulated:
        parts = [
            degrade(to_slices(one[None]), top.reshape(1), generator, True)
            for one, top in zip(image, maximum.expand(len(image)), strict=True)
        ]
        measurements = [as_volume(part.measurement) for part in parts]
        named = {field.name: [getattr(m, field.name) for m in measurements] for field in fields(measurements[0])}
        joined = {name: torch.cat(xs) for name, xs in named.items() if isinstance(xs[0], Tensor)}
        return Simulated(replace(measurements[0], **joined), torch.cat([to_volume(part.truth) for part in parts]))

    return simulate
