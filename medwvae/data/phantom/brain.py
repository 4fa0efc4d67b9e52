"""The brain's shapes: envelopes, folded cortex, ventricles, deep nuclei, cerebellum, vessels. Distances in mm."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from medwvae.data.phantom.shapes import Point, Space, Volume, blend


@dataclass
class Build:
    """Sizes that make one subject differ from the next: scale factors, and lengths in mm."""

    size: NDArray[np.float64]
    ventricle: float
    sulcus: float
    cortex: float
    skull: float
    scalp: float
    face: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Build":
        """Draw one subject's sizes."""
        return cls(
            size=1 + 0.035 * np.clip(rng.standard_normal(3), -2, 2),
            ventricle=float(np.exp(0.25 * np.clip(rng.standard_normal(), -1.6, 2.0))),
            sulcus=float(np.exp(0.3 * np.clip(rng.standard_normal(), -1.5, 1.8))),
            cortex=float(rng.uniform(2.5, 3.1)),
            skull=float(rng.uniform(4.5, 7.5)),
            scalp=float(rng.uniform(4.5, 8.0)),
            face=float(rng.uniform(-3, 4)),
        )


@dataclass
class Hulls:
    """Distances to the smooth envelopes of the brain's large parts."""

    cerebrum: Volume
    cerebellum: Volume
    stem: Volume
    cranium: Volume


def hulls(s: Space) -> Hulls:
    """Build the envelopes, from the vertex down to the upper cervical cord."""
    upper = blend(s.ellipsoid((0, -3, 14), (67, 86, 62)), s.ellipsoid((24, -20, 22), (42, 62, 50), paired=True), 14)
    base = np.float32(-17) - s.z  # positive below the floor of the frontal and occipital lobes
    upper = -blend(-upper, -base, 14)
    temporal = s.ellipsoid((43, 2, -24), (21, 38, 21), paired=True)
    cerebellum = blend(
        s.ellipsoid((25, -50, -37), (29, 32, 20), paired=True), s.ellipsoid((0, -48, -34), (13, 24, 19)), 8
    )
    stem = blend(s.capsule((0, -12, -8), (0, -26, -85), (13, 6)), s.ellipsoid((0, -8, -26), (16, 12, 14)), 6)
    cerebrum = np.maximum(blend(upper, temporal, 12), 2.0 - cerebellum)
    cranium = blend(blend(cerebrum, cerebellum, 9), stem, 9) - 2.5
    return Hulls(cerebrum, cerebellum, stem, cranium)


@dataclass
class Cortex:
    """The folded cortex.

    `pial` is the depth below the pial surface (negative in CSF), `depth` the one below the smooth hull; `folds` has
    the sulci as its zero set; `rays` are points (3, R, A, S) that follow the fibres from each hemisphere's middle;
    `callosum` is the distance, in the sagittal plane, to the outline of the corpus callosum.
    """

    pial: Volume
    depth: Volume
    folds: Volume
    rays: NDArray[np.float32]
    callosum: Volume


def cortex(s: Space, build: Build, hull: Volume) -> Cortex:
    """Fold the cortex: walls of CSF (the sulci) go down from the hull along the zero set of a labyrinth noise."""
    middle, reach = (26.0, -3.0, 8.0), (42.0, 86.0, 60.0)
    scaled = [(a - np.float32(m)) / np.float32(r) for a, m, r in zip((s.side, s.y, s.z), middle, reach, strict=True)]
    norm = np.sqrt(scaled[0] ** 2 + scaled[1] ** 2 + scaled[2] ** 2) + np.float32(0.05)
    stretch = np.float32(0.8) / norm + np.float32(0.2)
    rays = np.stack([u * stretch * np.float32(r) for u, r in zip(scaled, reach, strict=True)])
    rays[0] += np.where(s.x > 0, np.float32(0), np.float32(97))  # the two halves fold each in its own way
    points = [ray + np.float32(1.7) * s.noise(f"fold warp {axis}", 9.0) for axis, ray in enumerate(rays)]

    # Three named fissures: interhemispheric (down to the corpus callosum), Sylvian, and the one over the insula.
    callosum = (np.sqrt(((s.y + 3) / 41) ** 2 + ((s.z - 1) / 29) ** 2) - 1) * 30
    midline = np.sqrt(s.side**2 + np.clip(-callosum, 0, None) ** 2)
    rise = s.z + 3 + np.float32(0.3) * s.y
    length = np.clip(np.abs(s.y - 2) - 30, 0, None)
    sylvian = np.sqrt(rise**2 + np.clip(39 - s.side, 0, None) ** 2 + length**2)
    height = np.clip(np.abs(rise - 2) - 8, 0, None)
    insula = np.sqrt((s.side - 40) ** 2 + height**2 + np.clip(np.abs(s.y - 4) - 20, 0, None) ** 2)
    fissure = np.minimum(midline, np.minimum(sylvian, insula))

    depth = np.maximum(np.minimum(-hull, midline), 0)
    core = -blend(
        s.ellipsoid((17, 0, 6), (23, 42, 22), paired=True), s.ellipsoid((22, -45, 8), (13, 28, 12), paired=True), 10
    )
    folds = s.pattern("sulci", 23.0, points)
    sulcus = _wall(s, folds, depth - (18 + 4.5 * s.noise("sulcal depth", 22.0)), core)
    dimple = _wall(s, s.pattern("gyri", 14.0, points), depth - (6.5 + 2.5 * s.noise("gyral depth", 18.0)), core)
    width = np.float32(0.7 * build.sulcus) * np.clip(1.25 - depth * np.float32(0.045), 0.3, None)
    wall = np.minimum(sulcus - width, dimple - np.float32(0.6) * width)
    wall = np.minimum(wall, fissure - np.float32(0.8 * build.sulcus))
    # A rounded seam, so that the crown of a gyrus is round, not square.
    return Cortex(blend(-hull, wall, 4.0), depth, folds, rays, callosum)


def _wall(s: Space, field: Volume, beyond: Volume, core: Volume) -> Volume:
    """Return the distance to the zero set of `field` where it is neither `beyond` its end nor in the deep `core`."""
    distance = np.sqrt(s.distance_to_zero(field) ** 2 + np.clip(beyond, 0, None) ** 2)
    result: Volume = np.maximum(distance, core)
    return result


def ventricles(s: Space, scale: float) -> tuple[Volume, Volume]:
    """Return distances to the lateral ventricles, and to the third and fourth ventricles with the aqueduct."""
    nodes: list[tuple[Point, float]] = [
        ((7, 33, 3), 3.0),
        ((8, 20, 9), 4.6),
        ((8, -2, 17), 4.4),
        ((12, -22, 17), 5.0),
        ((24, -38, 8), 6.5),
        ((33, -20, -9), 3.0),
        ((31, 4, -19), 2.0),
    ]
    lateral = s.capsule(nodes[4][0], (23, -64, 3), (5.5 * scale, 1.5 * scale), paired=True)
    for (start, first), (end, last) in pairwise(nodes):
        rod = s.capsule(start, end, (first * scale, last * scale), paired=True)
        lateral = blend(lateral, rod, 5)
    third = blend(s.ellipsoid((0, -6, 1), (1.6 * scale, 17, 10)), s.capsule((0, -22, -4), (0, -28, -20), (1, 1)), 3)
    fourth = s.ellipsoid((0, -30, -32), (8 * scale**0.5, 5, 11))
    return lateral, blend(third, fourth, 3)


def nuclei(s: Space) -> dict[str, Volume]:
    """Return distances to the deep grey nuclei, by tissue."""
    caudate = blend(
        s.ellipsoid((15, 22, 7), (6, 11, 10), paired=True),
        s.capsule((16, 14, 14), (21, -20, 20), (4.5, 2), paired=True),
        4,
    )
    slant = replace(s, x=s.side + np.float32(0.22) * (s.y - 4))  # the lentiform nucleus narrows to the front
    putamen = slant.ellipsoid((28, 6, 1), (5.5, 18, 11), paired=True)
    pallidum = slant.ellipsoid((21.5, 2, -1), (4.5, 11, 7), paired=True)
    thalamus = s.ellipsoid((10.5, -13, 6), (9, 15, 9.5), paired=True)
    return {"pallidum": pallidum, "deep": np.minimum(np.minimum(caudate, putamen), thalamus)}


def folia(s: Space, hull: Volume) -> tuple[Volume, Volume]:
    """Return the pial depth and the white matter's depth of the cerebellum: thin leaves about a branching core."""
    bend = 1.6 * s.noise("folia", 14.0) + s.noise("folia fine", 6.0) * np.float32(0.4)
    radius = np.sqrt((s.y + 32) ** 2 + (s.z + 30) ** 2 + (s.side * np.float32(0.35)) ** 2)
    angle = np.arctan2(s.z + 34, -(s.y + 24))
    leaf = np.abs(np.sin(np.float32(np.pi) * (radius * np.float32(0.12) + angle * 5 + bend * np.float32(0.35))))
    gap = leaf * np.float32(3.0)  # mm to the nearest fissure between two leaves
    pial = np.minimum(-hull, np.maximum(gap - np.float32(0.45), -hull - 9))
    white = np.maximum(-hull - 8 - bend, np.minimum(gap - 2.1, -hull - 2.5))
    return pial, white


def perforators(s: Space, purpose: str, count: int, radius: tuple[float, float]) -> Volume:
    """Return the fraction of thin, nearly straight vessels that run from the hull towards the ventricles."""
    rng = s.rng(purpose)
    toward = rng.standard_normal((count, 3))
    toward /= np.linalg.norm(toward, axis=1, keepdims=True)
    half = rng.choice([-1.0, 1.0], count)
    toward[:, 0] = np.abs(toward[:, 0]) * half
    start = np.stack([18 * half, rng.uniform(-45, 30, count), rng.uniform(5, 22, count)], axis=1)
    step = 0.4
    travel = np.arange(0, 46, step)
    first, length = rng.uniform(4, 24, count), rng.uniform(6, 24, count)
    sway = rng.standard_normal((count, 3, 2))
    curve = np.sin(travel[None, :, None] / 7 + sway[:, None, :, 0] * 3) * sway[:, None, :, 1] * 0.6
    points = start[:, None] + toward[:, None] * travel[None, :, None] + curve
    shown = (travel[None] > first[:, None]) & (travel[None] < (first + length)[:, None])
    radii = np.broadcast_to(rng.uniform(*radius, count)[:, None], shown.shape)
    return s.tubes(points[shown], radii[shown], step)


def arteries(s: Space) -> Volume:
    """Return the fraction of the large arteries: carotid, basilar, and the circle of Willis with its branches."""
    rng = s.rng("arteries")
    half: list[tuple[list[Point], float]] = [
        ([(12, 10, -60), (13, 12, -42), (11, 8, -28), (7, 10, -17)], 2.0),
        ([(7, 10, -17), (18, 11, -14), (30, 8, -10), (39, 4, -6), (41, -8, 0), (42, -22, 5)], 1.3),
        ([(7, 10, -17), (3, 20, -13), (2, 34, -8), (2, 42, 8), (2, 34, 26), (2, 10, 35)], 1.1),
        ([(1, 3, -18), (10, 0, -15), (17, -14, -13), (18, -34, -8), (16, -60, 0)], 1.1),
    ]
    paths = [([(sign * x, y, z) for x, y, z in points], radius) for sign in (1, -1) for points, radius in half]
    paths.append(([(0, -14, -60), (0, 5, -40), (0, 7, -28), (0, 3, -18)], 1.6))
    step, places, radii = 0.4, [], []
    for nodes, radius in paths:
        knots = np.asarray(nodes, float)
        knots[1:-1] += rng.normal(0, 1.2, knots[1:-1].shape)
        lengths = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
        along = np.arange(0, lengths[-1], step)
        bend = np.stack(
            [np.sin(along / p + phase) for p, phase in zip(rng.uniform(3, 6, 3), rng.uniform(0, 6, 3), strict=True)], 1
        )
        places.append(np.stack([np.interp(along, lengths, knots[:, axis]) for axis in range(3)], axis=1) + 0.7 * bend)
        radii.append(np.linspace(radius, 0.6 * radius, len(along)))
    return s.tubes(np.concatenate(places), np.concatenate(radii), step)
