"""Building blocks of the phantom: smooth noise, signed distances (mm, negative inside), partial-volume memberships."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from medwvae.seeding import seed_for

Volume = NDArray[np.float32]
Point = tuple[float, float, float]


def rotation(degrees: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the 3x3 rotation about x, then y, then z, by angles in degrees."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        first, second = [other for other in range(3) if other != axis]
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def _upsample(lattice: Volume, positions: NDArray[np.float64], axis: int) -> Volume:
    """Sample the cubic B-spline with coefficients `lattice` at `positions` (at least 1) along one axis.

    Written out as four weighted copies: a matrix product would round differently on another number of threads.
    """
    first = np.floor(positions).astype(np.int64)
    t = positions - first
    weights = ((1 - t) ** 3 / 6, 2 / 3 - t**2 + t**3 / 2, 2 / 3 - (1 - t) ** 2 + (1 - t) ** 3 / 2, t**3 / 6)
    along = [-1 if other == axis else 1 for other in range(lattice.ndim)]
    result: Volume = np.zeros((), np.float32)
    for offset, weight in zip((-1, 0, 1, 2), weights, strict=True):
        result = result + lattice.take(first + offset, axis=axis) * weight.astype(np.float32).reshape(along)
    return result / np.float32(np.sqrt(np.mean(np.sum(np.square(weights), axis=0))))


@dataclass
class Space:
    """A sampling grid, and where each voxel lies in the head's own frame (mm; x right, y anterior, z superior).

    Attributes
    ----------
    x, y, z : (R, A, S) float32 arrays
        Head coordinates; `side` (|x|) lets one shape serve both halves.
    to_voxel : (4, 4) array
        From head coordinates, before any deformation, to voxel indices.
    spacing : three floats
        Voxel size in mm.
    seed : int
        Seed of this subject; every random field asks for its own stream by name.
    """

    x: Volume
    y: Volume
    z: Volume
    to_voxel: NDArray[np.float64]
    spacing: tuple[float, float, float]
    seed: int

    @classmethod
    def make(
        cls, shape: tuple[int, int, int], affine: NDArray[np.float64], pose: NDArray[np.float64], seed: int
    ) -> "Space":
        """Build the grid of `affine` (voxel to world, mm), seen from a head placed in the world by `pose` (4x4)."""
        matrix = np.linalg.inv(pose) @ affine
        i, j, k = np.ogrid[: shape[0], : shape[1], : shape[2]]
        x, y, z = ((row[0] * i + row[1] * j + row[2] * k + row[3]).astype(np.float32) for row in matrix[:3])
        sizes = np.linalg.norm(affine[:3, :3], axis=0)
        spacing = (float(sizes[0]), float(sizes[1]), float(sizes[2]))
        return cls(x, y, z, np.asarray(np.linalg.inv(matrix), np.float64), spacing, seed)

    def __post_init__(self) -> None:
        self.side: Volume = np.abs(self.x)

    @property
    def voxel(self) -> float:
        """Edge of a cube of the voxel's volume, mm: the width of a partial-volume ramp."""
        return float(np.prod(self.spacing) ** (1 / 3))

    def rng(self, purpose: str) -> np.random.Generator:
        """Return the random stream of one purpose."""
        return np.random.default_rng(seed_for(self.seed, purpose))

    def noise(self, purpose: str, scale: float | tuple[float, float, float]) -> Volume:
        """Return smooth noise of about zero mean and unit variance; `scale` is the lattice step in mm, per axis."""
        steps = (scale, scale, scale) if isinstance(scale, int | float) else scale
        # A step below the voxel size would alias: it becomes voxel-scale noise instead.
        places = [
            np.arange(count) * size / max(step, size) + 1.5
            for count, size, step in zip(self.x.shape, self.spacing, steps, strict=True)
        ]
        field = self.rng(purpose).standard_normal([int(p[-1]) + 3 for p in places], dtype=np.float32)
        for axis in (2, 1, 0):  # the last step is the largest, and fastest along the first axis
            field = _upsample(field, places[axis], axis)
        return field

    def octaves(self, purpose: str, scales: Sequence[float]) -> Volume:
        """Return a sum of noises whose amplitude falls with the square root of their scale, of about unit variance."""
        amplitudes = np.sqrt(np.asarray(scales) / np.sum(scales))
        result: Volume = np.sum(
            [np.float32(a) * self.noise(f"{purpose} {s}", s) for a, s in zip(amplitudes, scales, strict=True)], axis=0
        )
        return result

    def pattern(self, purpose: str, wavelength: float, points: Sequence[Volume], step: float = 2.5) -> Volume:
        """Return band-passed noise of one `wavelength` (mm), unit variance, sampled at `points` (mm).

        Its zero set is a labyrinth: sampled at points projected on a surface, the walls are sulci.
        """
        count = 80
        white = self.rng(purpose).standard_normal((count,) * 3, dtype=np.float32)
        squares = [
            np.fft.fftfreq(count, step) ** 2,
            np.fft.fftfreq(count, step) ** 2,
            np.fft.rfftfreq(count, step) ** 2,
        ]
        radius = np.sqrt(squares[0][:, None, None] + squares[1][None, :, None] + squares[2][None, None, :])
        band = np.exp(-(((radius * wavelength - 1) / 0.28) ** 2)).astype(np.float32)
        lattice = fft.irfftn(fft.rfftn(white) * band, s=white.shape)  # SciPy's stays in float32
        lattice /= lattice.std()
        places = np.stack([np.asarray(p, np.float32) for p in points]) / np.float32(step)
        field: Volume = ndimage.map_coordinates(lattice, places, order=1, mode="grid-wrap", output=np.float32)
        return field

    def distance_to_zero(self, field: Volume) -> Volume:
        """Return the unsigned distance (mm, first order) to the zero set of a smooth field."""
        steepness = np.zeros_like(field)
        for axis, size in enumerate(self.spacing):
            if field.shape[axis] > 1:
                steepness += np.gradient(field, np.float32(size), axis=axis) ** 2
        result: Volume = np.abs(field) / np.sqrt(steepness + np.float32(1e-8))
        return result

    def ellipsoid(self, centre: Point, radii: Point, *, paired: bool = False) -> Volume:
        """Return the distance to an ellipsoid; `paired` puts one at +x and its mirror at -x."""
        squares: list[Volume] = []
        for axis, middle, radius in zip((self.side if paired else self.x, self.y, self.z), centre, radii, strict=True):
            squares.append(((axis - np.float32(middle)) * np.float32(1 / radius)) ** 2)
        k0 = squares[0] + squares[1] + squares[2]
        k1 = sum(square * np.float32(1 / radius**2) for square, radius in zip(squares, radii, strict=True))
        k0 = np.sqrt(k0)
        result: Volume = k0 * (k0 - 1) / (np.sqrt(k1) + np.float32(1e-6))
        return result

    def capsule(self, start: Point, end: Point, radii: tuple[float, float], *, paired: bool = False) -> Volume:
        """Return the distance to a rod from `start` to `end` whose radius runs from one value to the other."""
        axis = np.subtract(end, start).astype(np.float32)
        dx, dy, dz = (self.side if paired else self.x) - start[0], self.y - start[1], self.z - start[2]
        along = np.clip((dx * axis[0] + dy * axis[1] + dz * axis[2]) / np.dot(axis, axis), 0, 1)
        gap = np.sqrt((dx - along * axis[0]) ** 2 + (dy - along * axis[1]) ** 2 + (dz - along * axis[2]) ** 2)
        result: Volume = gap - (radii[0] + (radii[1] - radii[0]) * along)
        return result

    def inside(self, distance: NDArray[np.floating]) -> Volume:
        """Return the fraction of each voxel that lies inside (distance below zero)."""
        scaled = np.asarray(distance, np.float32) * np.float32(1 / self.voxel)
        result: Volume = np.clip(np.float32(0.5) - scaled, 0, 1)
        return result

    def sheet(self, distance: Volume, width: Volume | float) -> Volume:
        """Return the fraction of each voxel filled by a sheet of `width` mm about distance zero, however thin."""
        half: Volume = np.asarray(width, np.float32) * np.float32(0.5)
        return self.inside(distance - half) - self.inside(distance + half)

    def tubes(self, points: NDArray[np.float64], radii: NDArray[np.float64], step: float) -> Volume:
        """Return the fraction of each voxel filled by thin tubes sampled every `step` mm at `points` (P, 3), in mm."""
        places = np.einsum("ij,pj->pi", self.to_voxel[:3, :3], points) + self.to_voxel[:3, 3]
        low = np.floor(places).astype(np.int64)
        part = places - low
        filled = np.zeros(self.x.size)
        share = np.pi * radii**2 * step / np.prod(self.spacing)
        for corner in np.ndindex(2, 2, 2):
            index = low + corner
            weight = share * np.prod(np.where(corner, part, 1 - part), axis=1)
            valid = np.all((index >= 0) & (index < self.x.shape), axis=1)
            flat = np.ravel_multi_index(tuple(index[valid].T), self.x.shape)
            filled += np.bincount(flat, weight[valid], filled.size)
        return np.clip(filled, 0, 1).reshape(self.x.shape).astype(np.float32)


def blend(first: Volume, second: Volume, radius: float) -> Volume:
    """Return the union of two shapes with their seam rounded over `radius` mm (polynomial smooth minimum)."""
    overlap = np.clip(radius - np.abs(first - second), 0, None)
    result: Volume = np.minimum(first, second) - overlap**2 * np.float32(0.25 / radius)
    return result
