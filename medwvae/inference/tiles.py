"""Tiles: a volume is cut into aligned cores, each read with a halo around it; the parts' weights sum to one.

Along one axis, neighbours meet at a multiple of `step`. Each reads `halo` voxels beyond, and the answer of one passes
into that of the other over `ramp` voxels on either side of the meeting point. Where the halo covers what the network
sees, there is nothing to blend: ramp 0, every voxel is taken from one tile, and tiles give what the whole would have.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medwvae.inference.footprint import Footprint


class Span(NamedTuple):
    """One tile along one axis; voxels counted on the padded axis.

    Attributes
    ----------
    read, keep : (int, int)
        Begin and end of what the network is given, and of what its answer counts for.
    weight : array (keep,)
        Of the answer; the weights of all spans sum to one at every voxel.
    earlier : array (keep,)
        Sum of the weights of the spans before this one.
    """

    read: tuple[int, int]
    keep: tuple[int, int]
    weight: NDArray[np.float64]
    earlier: NDArray[np.float64]


class Tile(NamedTuple):
    """One span per axis."""

    spans: tuple[Span, ...]

    @property
    def read(self) -> tuple[slice, ...]:
        """What the network is given, on the padded volume."""
        return tuple(slice(*span.read) for span in self.spans)

    @property
    def keep(self) -> tuple[slice, ...]:
        """Where its answer counts, on the padded volume."""
        return tuple(slice(*span.keep) for span in self.spans)

    @property
    def inside(self) -> tuple[slice, ...]:
        """`keep`, counted from the beginning of `read`."""
        return tuple(slice(span.keep[0] - span.read[0], span.keep[1] - span.read[0]) for span in self.spans)

    @property
    def voxels(self) -> int:
        """Voxels that are read."""
        return math.prod(span.read[1] - span.read[0] for span in self.spans)

    def share(self) -> NDArray[np.float32] | None:
        """Return how much of the blend so far gives way to this tile; None where all of it does.

        Tiles come one after another, the last axis fastest. Of the tiles that come before, at a voxel, the weights sum
        to e₀ + w₀ (e₁ + w₁ (e₂ + ...)), with the e and w of the spans; this tile's weight is w₀ w₁ w₂ ...
        """
        if all((span.weight == 1).all() for span in self.spans):
            return None
        own, before = np.ones(()), np.zeros(())
        for axis, span in reversed(list(enumerate(self.spans))):
            shape = [-1 if other == axis else 1 for other in range(len(self.spans))]
            weight = span.weight.reshape(shape)
            own, before = weight * own, span.earlier.reshape(shape) + weight * before
        return np.asarray(own / (own + before), np.float32)


@dataclass(frozen=True)
class Plan:
    """The tiles of a volume.

    Attributes
    ----------
    shape : tuple of int
        Of the volume.
    axes : tuple of list of Span
        Along each axis.
    exact : bool
        Whether every tile sees all that its answer depends on.
    """

    shape: tuple[int, ...]
    axes: tuple[list[Span], ...]
    exact: bool

    def tiles(self) -> Iterator[Tile]:
        """Yield the tiles, the last axis fastest."""
        return map(Tile, itertools.product(*self.axes))

    @property
    def count(self) -> int:
        """Number of tiles."""
        return math.prod(len(spans) for spans in self.axes)

    @property
    def largest(self) -> int:
        """Voxels of the largest tile."""
        return math.prod(max(span.read[1] - span.read[0] for span in spans) for spans in self.axes)

    @property
    def read(self) -> int:
        """Voxels of all tiles together: the work."""
        return math.prod(sum(span.read[1] - span.read[0] for span in spans) for spans in self.axes)


def spans(size: int, step: int, parts: int, halo: int, ramp: int = 0) -> list[Span]:
    """Cut an axis into at most `parts` cores, multiples of `step` long and as equal as they can be.

    The last core ends at the next multiple of `step` at or beyond `size`. `ramp` is cut to half a core: further, three
    tiles would meet.
    """
    cells = math.ceil(size / step)
    parts = min(parts, cells)
    bounds = [cells * k // parts * step for k in range(parts + 1)]
    halo = math.ceil(halo / step) * step
    ramp = min([ramp, halo, *((end - begin) // 2 for begin, end in itertools.pairwise(bounds))])
    rising = (np.arange(2 * ramp) + 0.5) / max(2 * ramp, 1)
    out = []
    for k, (begin, end) in enumerate(itertools.pairwise(bounds)):
        left, right = (ramp if k else 0), (ramp if k < parts - 1 else 0)
        keep = (begin - left, end + right)
        weight, earlier = np.ones(keep[1] - keep[0]), np.zeros(keep[1] - keep[0])
        if left:
            weight[: 2 * left] = rising
            earlier[: 2 * left] = 1 - rising
        if right:
            weight[-2 * right :] = 1 - rising
        out.append(Span((max(begin - halo, 0), min(end + halo, bounds[-1])), keep, weight, earlier))
    return out


def plan(
    shape: Sequence[int],
    footprint: Footprint,
    voxels: float,
    *,
    divisible: Sequence[bool] | None = None,
    largest: Sequence[int | None] | None = None,
) -> Plan | None:
    """Return the tiles of at most so many voxels that together read least; None if there are none.

    Where the whole reach of the network does not fit around any core, or it has none, the halo becomes smaller, half by
    half, and the tiles are blended.

    Parameters
    ----------
    shape : sequence of int
        Spatial shape of the volume.
    voxels : float
        The most that one tile may hold, halo included.
    divisible : sequence of bool, optional
        Axes that may be cut, all by default; the others are whole and not padded.
    largest : sequence of (int or None), optional
        The most voxels of a tile's core along each axis.
    """
    free = tuple(divisible) if divisible is not None else (True,) * len(shape)
    caps = tuple(largest) if largest is not None else (None,) * len(shape)
    full = tuple(
        2 * step if reach is None else reach for step, reach in zip(footprint.step, footprint.reach, strict=True)
    )
    halos, exact = full, True
    while True:
        found = _cheapest(tuple(shape), footprint, halos, voxels, free, caps, blended=not exact)
        if found is not None:
            return found
        smaller = tuple(
            min(halo, math.ceil(halo / 2 / step) * step) for halo, step in zip(halos, footprint.step, strict=True)
        )
        if smaller == halos:
            return None
        halos, exact = smaller, False


def _cheapest(
    shape: tuple[int, ...],
    footprint: Footprint,
    halos: tuple[int, ...],
    voxels: float,
    free: tuple[bool, ...],
    caps: tuple[int | None, ...],
    *,
    blended: bool,
) -> Plan | None:
    choices = []
    for size, step, reach, halo, cut, cap in zip(
        shape, footprint.step, footprint.reach, halos, free, caps, strict=True
    ):
        if not cut:
            choices.append([spans(size, size, 1, 0)])
            continue
        cells = math.ceil(size / step)
        most = cells if cap is None else max(min(cap // step, cells), 1)
        ramp = halo // 2 if blended or reach is None else 0
        counts = sorted({math.ceil(cells / core) for core in range(1, most + 1)})
        choices.append([spans(size, step, parts, halo, ramp) for parts in counts])
    longest = [np.array([max(s.read[1] - s.read[0] for s in spans_) for spans_ in choice]) for choice in choices]
    total = [np.array([sum(s.read[1] - s.read[0] for s in spans_) for spans_ in choice]) for choice in choices]
    size_of_tile = _outer(longest)
    work = np.where(size_of_tile <= voxels, _outer(total), np.inf)
    best = np.unravel_index(int(work.argmin()), work.shape)
    if not np.isfinite(work[best]):
        return None
    axes = tuple(choice[place] for choice, place in zip(choices, best, strict=True))
    covered = all(
        len(own) == 1 or (reach is not None and halo >= reach)
        for own, reach, halo in zip(axes, footprint.reach, halos, strict=True)
    )
    return Plan(shape, axes, covered)


def _outer(factors: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Return the products of one entry of each, one axis for each."""
    product = np.ones(())
    for factor in factors:
        product = product[..., None] * factor
    return product
