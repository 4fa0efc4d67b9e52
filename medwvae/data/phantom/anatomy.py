"""One subject's head: which fraction of every voxel is which tissue, and how each tissue varies from place to place."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medwvae.data.phantom import brain
from medwvae.data.phantom.shapes import Space, Volume, blend, rotation


@dataclass
class Head:
    """Tissue fractions (with air they sum to one) and the relative variation of water content, by tissue name."""

    fractions: dict[str, Volume] = field(default_factory=dict)
    texture: dict[str, Volume] = field(default_factory=dict)


class _Painter:
    """Fill voxels from the front to the back: a shape takes only what the shapes before it have left."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.fractions: dict[str, Volume] = {}
        self.free: Volume = np.ones(shape, np.float32)

    def add(self, tissue: str, membership: Volume) -> None:
        taken = self.free * membership
        self.free = self.free - taken
        self.fractions[tissue] = self.fractions[tissue] + taken if tissue in self.fractions else taken


def make_head(shape: tuple[int, int, int], affine: NDArray[np.float64], seed: int, *, lesions: bool) -> Head:
    """Build one head on the grid of `affine` (RAS, mm): size, pose, folding and vessels all follow from `seed`."""
    s, build = _place(shape, affine, seed)
    parts = brain.hulls(s)
    paint = _Painter(shape)
    folded = _paint_brain(paint, s, build, parts)
    if lesions:
        _add_lesions(paint.fractions, s, brain.ventricles(s, build.ventricle)[0])
    _paint_skull(paint, s, build, parts.cranium)
    return Head(paint.fractions, _texture(s, folded))


def _place(shape: tuple[int, int, int], affine: NDArray[np.float64], seed: int) -> tuple[Space, brain.Build]:
    """Pose, scale and smoothly deform the head's coordinates."""
    rng = np.random.default_rng(seed)
    build = brain.Build.draw(rng)
    pose = np.eye(4)
    pose[:3, :3] = rotation(np.clip(rng.standard_normal(3), -2, 2) * (4.0, 2.0, 3.0)) @ np.diag(build.size)
    pose[:3, 3] = np.clip(rng.standard_normal(3), -2, 2) * (2.0, 2.5, 2.5)
    s = Space.make(shape, affine, pose, seed)
    shifts = [
        np.float32(1.25) * s.noise(f"deform {a}", 42.0) + np.float32(0.7) * s.noise(f"deform fine {a}", 17.0)
        for a in "xyz"
    ]
    s.x, s.y, s.z = s.x + shifts[0], s.y + shifts[1], s.z + shifts[2]
    s.side = np.abs(s.x)
    return s, build


def _paint_brain(paint: _Painter, s: Space, build: brain.Build, parts: brain.Hulls) -> brain.Cortex:
    folded = brain.cortex(s, build, parts.cerebrum)
    lateral, third = brain.ventricles(s, build.ventricle)
    in_hull = s.inside(parts.cerebrum)
    arteries = brain.arteries(s)
    sinus = np.sqrt(s.side**2 + (parts.cranium + 3) ** 2) + np.where((s.z > 5) | (s.y < -60), 0, 50).astype(np.float32)
    paint.add("blood", np.maximum(s.inside(sinus - 3.2), arteries * s.inside(parts.cranium)))
    falx = s.sheet(s.x + np.float32(0.4) * s.noise("falx", 20.0), 0.9)
    paint.add("dura", falx * s.inside(parts.cranium) * s.inside(7 - folded.callosum))
    paint.add("csf", np.maximum(s.inside(lateral), s.inside(third)))
    choroid = s.inside(s.capsule((12, -22, 15), (23, -38, 6), (1.5, 2.5), paired=True))
    paint.fractions["blood"] += paint.fractions["csf"] * choroid * np.float32(0.35)
    paint.fractions["csf"] *= 1 - choroid * np.float32(0.35)

    for name, distance in brain.nuclei(s).items():
        paint.add(name, s.inside(distance))
    ring = (np.sqrt(((s.y + 3) / 41) ** 2 + ((s.z - 1) / 29) ** 2) - 1) * 30 + 3.2
    callosum = np.maximum(np.maximum(np.abs(ring) - 3.2, s.side - 22), -3 - s.z)
    paint.add("white", s.inside(callosum) * in_hull)

    spaces = brain.perforators(s, "perivascular", 420, (0.2, 0.5))
    veins = brain.perforators(s, "medullary veins", 260, (0.2, 0.45))
    cortical = s.distance_to_zero(s.pattern("cortical vessels", 22.0, list(folded.rays)))
    thread = s.inside(np.sqrt(cortical**2 + np.clip(np.abs(folded.pial + 0.8) - 0.6, 0, None) ** 2) - 0.7)
    thickness = build.cortex + np.float32(0.35) * s.noise("cortical thickness", 14.0)
    tissue = s.inside(-folded.pial) * in_hull
    white = s.inside(thickness - folded.pial) * in_hull
    paint.add("csf", white * spaces)
    paint.add("blood", white * veins)
    paint.add("blood", thread * in_hull * (1 - tissue))
    paint.add("white", white)
    paint.add("grey", tissue)

    paint.add("deep", np.float32(0.4) * s.inside(parts.stem))
    leaf, core = brain.folia(s, parts.cerebellum)
    hull = s.inside(parts.cerebellum)
    paint.add("white", s.inside(np.minimum(parts.stem, s.capsule((4, -22, -30), (22, -44, -34), (6, 4), paired=True))))
    paint.add("white", s.inside(-core) * hull)
    paint.add("grey", s.inside(-leaf) * hull)
    paint.add("csf", s.inside(parts.cranium))
    return folded


def _add_lesions(fractions: dict[str, Volume], s: Space, lateral: Volume) -> None:
    """Turn some white matter, most of it beside the ventricles, into ovoid lesions (as in multiple sclerosis)."""
    rng = s.rng("lesions")
    white = fractions["white"]
    beside = np.flatnonzero((white > 0.9) & (lateral > 1) & (lateral < 9) & (s.z > -5))
    remote = np.flatnonzero((white > 0.9) & (lateral >= 9) & (s.z > -5))
    nearest = np.full(s.x.shape, 99, np.float32)
    for _ in range(int(rng.integers(5, 16))):
        pool = beside if beside.size and rng.random() < 0.7 else remote
        if not pool.size:
            continue
        place = int(rng.choice(pool))
        long, wide = rng.uniform(2.5, 6.0), rng.uniform(2.0, 3.5)
        # Ovoid across the ventricle's wall: long from side to side ("Dawson's fingers").
        distance = s.ellipsoid(
            (float(s.x.flat[place]), float(s.y.flat[place]), float(s.z.flat[place])),
            (long, wide, float(wide * rng.uniform(0.8, 1.4))),
        )
        nearest = np.minimum(nearest, distance)
    ragged = nearest + np.float32(1.2) * s.noise("lesion edge", 4.0)
    lesion = white * s.inside(ragged * np.float32(0.6))
    fractions["lesion"] = lesion
    fractions["white"] = white - lesion


def _paint_skull(paint: _Painter, s: Space, build: brain.Build, cranium: Volume) -> None:
    smooth: Volume = build.skull + np.float32(0.9) * s.noise("skull", 30.0)
    thickness = smooth + np.float32(0.3) * s.noise("skull fine", 6.0)  # the skin does not follow every bump
    eyes = s.ellipsoid((32, 68, -25), (12, 12.5, 12), paired=True)
    lens = s.ellipsoid((32, 76.5, -25), (4.6, 2.2, 4.6), paired=True)
    orbit = s.ellipsoid((31, 60, -25), (18, 27, 17), paired=True)
    nerve = s.capsule((31, 57, -25), (8, 18, -18), (2.0, 2.0), paired=True)
    recti = np.minimum(
        np.minimum(
            s.capsule((44, 66, -25), (16, 28, -21), (1.9, 1.9), paired=True),
            s.capsule((20, 66, -25), (13, 28, -21), (1.9, 1.9), paired=True),
        ),
        np.minimum(
            s.capsule((32, 66, -13), (14, 28, -19), (1.9, 1.9), paired=True),
            s.capsule((32, 66, -37), (14, 28, -23), (1.9, 1.9), paired=True),
        ),
    )
    vault = cranium - smooth - (build.scalp + np.float32(0.6) * s.noise("scalp", 25.0))
    face = s.ellipsoid((0, 42 + build.face, -62), (60, 52, 66))
    neck = s.capsule((0, -22, -50), (0, -30, -190), (56, 60))
    nose = s.capsule((0, 90 + build.face, -34), (0, 104 + build.face, -60), (5, 11))
    ears = s.ellipsoid((80, -12, -28), (5, 12, 19), paired=True)
    head = blend(blend(blend(vault, face, 22), neck, 25), blend(nose, ears, 2), 6)

    cells = s.pattern("air cells", 9.0, (s.x, s.y, s.z))
    sinus = np.minimum(
        np.minimum(
            s.ellipsoid((26, 62, -58), (13, 15, 15), paired=True), s.ellipsoid((9, 24, -33), (7.5, 11, 9), paired=True)
        ),
        np.minimum(s.ellipsoid((9, 84, -6), (10, 5, 10), paired=True), s.ellipsoid((0, 18, -82), (12, 8, 22))),
    )
    ethmoid = s.ellipsoid((0, 58, -28), (11, 22, 12))
    nasal = s.ellipsoid((0, 66, -52), (13, 30, 17))
    mastoid = s.ellipsoid((55, -26, -42), (9, 13, 15), paired=True)
    outside = s.inside(-head)
    air = np.maximum(
        s.inside(sinus),
        np.maximum(
            s.inside(np.maximum(np.minimum(ethmoid, mastoid), 0.5 - np.abs(cells) * 3)),
            s.inside(np.maximum(nasal, 1.2 - np.abs(cells) * 5)) * (1 - s.sheet(s.x, 2.0)),
        ),
    )
    paint.add("air", outside)
    paint.add("lens", s.inside(lens))
    paint.add("vitreous", s.inside(eyes))
    socket = s.inside(orbit)
    paint.add("white", s.inside(nerve) * socket)
    paint.add("muscle", s.inside(recti) * socket)
    paint.add("fat", s.inside(np.maximum(orbit, cranium * -1 + 2)))
    paint.add("air", air * s.inside(-cranium))
    paint.add("muscle", s.inside(np.maximum(nasal, -cranium)))
    paint.add(
        "bone",
        s.inside(np.minimum(np.minimum(orbit, sinus), np.minimum(mastoid, ethmoid)) - 1.8),
    )

    spongy: Volume = np.float32(0.5) * thickness + np.float32(0.25) * s.noise("diploe", 9.0)
    middle: Volume = np.abs(cranium - np.float32(0.52) * thickness)
    paint.add("marrow", s.inside(middle - np.float32(0.5) * spongy + 0.3))
    paint.add("bone", s.inside(cranium - thickness))
    jaw = s.octaves("face bone", (14.0, 7.0))
    low = s.inside(s.z + 30)
    paint.add("bone", low * s.inside((0.9 - jaw) * 4) * s.inside(head + 9))
    paint.add("skin", s.inside(-2.2 - head))
    temporalis = s.ellipsoid((64, 24, -12), (14, 30, 30), paired=True)
    tissue = s.octaves("soft tissue", (12.0, 6.0))
    paint.add("muscle", s.inside(temporalis))
    paint.add("muscle", low * s.inside((0.1 - tissue) * 5) * s.inside(head + 5))
    paint.add("muscle", s.inside(cranium - thickness - 1.2))
    septa = s.inside((np.abs(cells) - np.float32(0.15)) * 4)
    paint.add("skin", np.float32(0.6) * septa * s.inside(head))
    paint.add("fat", s.inside(head))
    paint.add("air", np.ones_like(paint.free))


def _texture(s: Space, folded: brain.Cortex) -> dict[str, Volume]:
    """Return relative variations of water content: fibres and bundles, cortical columns and layers, trabeculae."""
    rays = list(folded.rays)
    along = s.pattern("fibres", 7.0, rays, step=1.0)
    bundles = s.octaves("bundles", (18.0, 9.0))
    across = s.noise("commissural fibres", (16.0, 2.2, 2.2))
    grain = s.octaves("grain", (4.0, 2.0))
    central = np.clip(1.2 - s.side / 20, 0, 1)
    fibres = along * (1 - central) + across * central
    layers = np.sin(folded.pial * np.float32(2.2))
    coarse = s.octaves("soft", (8.0, 4.0, 2.0))
    bone = s.octaves("trabeculae", (5.0, 2.5))
    white = np.float32(0.040) * fibres + np.float32(0.028) * bundles + np.float32(0.018) * grain
    grey = (
        np.float32(0.035) * along + np.float32(0.025) * layers + np.float32(0.025) * bundles + np.float32(0.020) * grain
    )
    return {
        "white": white,
        "grey": grey,
        "deep": np.float32(0.02) * bundles + np.float32(0.025) * across + np.float32(0.015) * grain,
        "pallidum": np.float32(0.04) * coarse,
        "lesion": np.float32(0.08) * coarse,
        "fat": np.float32(0.12) * coarse,
        "muscle": np.float32(0.08) * coarse,
        "marrow": np.float32(0.15) * bone,
        "bone": np.float32(0.08) * bone,
        "blood": np.float32(0.1) * grain,
        "csf": np.float32(0.01) * bundles,
    }
