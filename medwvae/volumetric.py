"""Volumes instead of batches of slices: the same measurements, as networks with three axes read them.

The physics of a task stays that of the slices: of a volume (or of a part of it) all slices are one acquisition.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from medwvae.degradation import Degradation, Mixture, Simulated
from medwvae.operators import Measurement
from medwvae.operators.measurement import EXPECTED_ERROR


@dataclass(frozen=True)
class VolumeMeasurement(Measurement):
    """Measurements of volumes, one acquisition of slices each; made by `as_volumes`.

    Attributes
    ----------
    start : Tensor
        (B, C, S, H, W), that of the acquisitions.
    sigma, maximum, noise, label : Tensor or None
        (B, 1, 1, 1, 1), thrice, and (B,).
    acquisitions : tuple of Measurement
        B measurements of S slices; data consistency is theirs.
    """

    acquisitions: tuple[Measurement, ...] = ()

    @property
    def local(self) -> bool:
        """Whether what is known of a voxel concerns that voxel alone."""
        return all(slices.local for slices in self.acquisitions)

    @property
    def known(self) -> Tensor | None:
        """See `Measurement.known`."""
        parts = [slices.known for slices in self.acquisitions]
        return None if parts[0] is None else torch.cat([to_volume(part) for part in parts if part is not None])

    def __getitem__(self, index: slice) -> "VolumeMeasurement":
        """Take some volumes of the batch."""
        return self._of(self.acquisitions[index], None if self.label is None else self.label[index])

    def each(self, function: Callable[[Tensor], Tensor]) -> "VolumeMeasurement":
        """Apply a function to every tensor of the acquisitions; what joins them follows."""
        label = None if self.label is None else function(self.label)
        return self._of([slices.each(function) for slices in self.acquisitions], label)

    def silent(self) -> "VolumeMeasurement":
        """See `Measurement.silent`."""
        return self._of([slices.silent() for slices in self.acquisitions], self.label)

    def project(self, image: Tensor, error: float = EXPECTED_ERROR) -> Tensor:
        """Return the volumes nearest to `image` that agree with the data of their slices; see `Measurement.project`."""
        if self.local:
            return image
        pairs = zip(self.acquisitions, image, strict=True)
        return torch.cat([to_volume(slices.project(to_slices(one[None]), error)) for slices, one in pairs])

    def proximal(self, image: Tensor, weight: float | Tensor) -> Tensor:
        """Return a compromise of volumes and the data of their slices; as it is without data."""
        if self.local:
            return image
        weights = [own[None, ..., 0] for own in weight] if isinstance(weight, Tensor) and weight.ndim > 1 else [weight]
        parts = zip(self.acquisitions, image, weights * (len(image) // len(weights)), strict=True)
        return torch.cat([to_volume(slices.proximal(to_slices(one[None]), own)) for slices, one, own in parts])

    def conditions(self) -> Tensor:
        """Return what is known of each acquisition, (B, 2, 1, 1, 1); see `Measurement.conditions`."""
        return torch.cat([slices.conditions()[:1, ..., None] for slices in self.acquisitions])

    def flip(self, axes: tuple[int, ...]) -> "VolumeMeasurement":
        """Mirror axes of -3, -2, -1: the measurement of the mirrored volumes."""
        in_plane = tuple(axis for axis in axes if axis != -3)
        flipped = [slices.flip(in_plane) for slices in self.acquisitions]
        if -3 in axes:
            flipped = [taken(slices, torch.arange(len(slices.start) - 1, -1, -1)) for slices in flipped]
        return self._of(flipped, self.label)

    def _of(self, acquisitions: Sequence[Measurement], label: Tensor | None) -> "VolumeMeasurement":
        return replace(as_volumes(acquisitions), label=label)


def taken(slices: Measurement, index: Tensor) -> Measurement:
    """Return slices in the order of an index, which may repeat some."""
    return slices[cast(slice, index)]  # tensors take an index where they take a slice


def as_volumes(acquisitions: Sequence[Measurement]) -> VolumeMeasurement:
    """Join measurements of S slices (S, C, H, W) to one of as many volumes.

    Noise levels, maximum and label of a volume are those of its first slice; the noise law is the same for all.
    """

    def joined(parts: list[Tensor | None]) -> Tensor | None:
        known = [part for part in parts if part is not None]
        return known[0] if len(known) == 1 else torch.cat(known) if known else None

    sigma = joined([None if m.sigma is None else m.sigma[:1, ..., None] for m in acquisitions])
    noise = joined([None if m.noise is None else m.noise[:1, ..., None] for m in acquisitions])
    maximum = joined([None if m.maximum is None else m.maximum[:1, ..., None] for m in acquisitions])
    label = joined([None if m.label is None else m.label[:1] for m in acquisitions])
    start = cast(Tensor, joined([to_volume(m.start) for m in acquisitions]))
    return VolumeMeasurement(
        start,
        sigma=sigma,
        law=acquisitions[0].law,
        maximum=maximum,
        label=label,
        noise=noise,
        acquisitions=tuple(acquisitions),
    )


def to_volume(slices: Tensor) -> Tensor:
    """(S, C, H, W) to (1, C, S, H, W)."""
    return slices.movedim(0, 1)[None]


def to_slices(volume: Tensor) -> Tensor:
    """Undo `to_volume`."""
    return volume[0].movedim(1, 0)


def volumetric(degrade: Degradation) -> Degradation:
    """Return a degradation of volumes (B, 1, S, H, W) by that of slices; each volume is one acquisition."""
    if isinstance(degrade, Mixture):  # a batch is measured in one setting
        return Mixture(tuple(map(volumetric, degrade.settings)))

    def simulate(image: Tensor, maximum: Tensor, generator: torch.Generator, run: int | None) -> Simulated:
        pairs = zip(image, maximum.expand(len(image)), strict=True)
        parts = [degrade(to_slices(one[None]), top.reshape(1), generator, None) for one, top in pairs]
        measurement = as_volumes([part.measurement for part in parts])
        return Simulated(measurement, torch.cat([to_volume(part.truth) for part in parts]))

    return simulate
