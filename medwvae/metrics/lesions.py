"""What is left of a lesion."""

import numpy as np

from medwvae.metrics.voxels import Array, Mask, checked

RING = 3
"""Width of the surroundings that a lesion is compared with, voxels in plane."""


def surroundings(lesion: Mask, within: Mask) -> Mask:
    """Return the ring of `RING` voxels in plane around a lesion (slices, H, W), one voxel apart from it."""
    from scipy import ndimage

    cross = ndimage.generate_binary_structure(2, 1)[None]
    near = ndimage.binary_dilation(lesion, cross)
    far = ndimage.binary_dilation(near, cross, iterations=RING)
    return np.asarray(far & ~near & within)


def lesion_contrast(x: Array, ref: Array, *, lesion: Mask, head: Mask) -> float | None:
    """Contrast kept: (mean of x in the lesion − mean of x around it) / (the same of the truth); no unit, 1 is best.

    Around it: `surroundings`. None if the lesion has none, or no contrast in the truth.

    Raises
    ------
    ValueError
        If shapes differ, or a mask does not fit.
    """
    if x.shape != ref.shape:
        raise ValueError(f"image and reference differ in shape: {x.shape} and {ref.shape}")
    inside, ring = checked(lesion, x.shape), surroundings(lesion, checked(head, x.shape))
    if not ring.any():
        return None
    own, theirs = (float(f[inside].mean(dtype=np.float64) - f[ring].mean(dtype=np.float64)) for f in (ref, x))
    return theirs / own if own != 0 else None
