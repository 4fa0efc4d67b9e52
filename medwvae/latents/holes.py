"""Masks of what is known of an image: everything but a block, but some slices, or but scattered voxels."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def block(shape: Sequence[int], centre: Sequence[int], size: int) -> Tensor:
    """Return the known voxels around a missing block: bool *shape, False in a cube of side `size`.

    Raises
    ------
    ValueError
        If the block does not lie within the image, or fills it.
    """
    known = torch.ones(tuple(shape), dtype=torch.bool)
    spans = [slice(c - size // 2, c - size // 2 + size) for c in centre]
    fits = len(spans) == len(shape) and all(s.start >= 0 and s.stop <= n for s, n in zip(spans, shape, strict=True))
    if size < 1 or not fits:
        raise ValueError(
            f"a block of {size} around {tuple(centre)} does not lie within an image of shape {tuple(shape)}"
        )
    known[tuple(spans)] = False
    if not known.any():
        raise ValueError("the block fills the image: nothing would be known")
    return known


def missing_slices(shape: Sequence[int], indices: Sequence[int], axis: int = 2) -> Tensor:
    """Return the known voxels of a volume without some of its slices across an axis, by default axial: bool *shape.

    Raises
    ------
    ValueError
        If it is no volume (a model of slices knows nothing about a slice's neighbours), an index lies outside, or no
        slice is left.
    """
    if len(shape) != 3:
        raise ValueError(
            f"slices are missing from volumes; an image of {' x '.join(map(str, shape))} is one slice, and a model of "
            "slices knows nothing of its neighbours: use a 3D model"
        )
    if any(not 0 <= k < shape[axis] for k in indices):
        raise ValueError(f"there are slices 0 to {shape[axis] - 1} along axis {axis}; got {list(indices)}")
    known = torch.ones(tuple(shape), dtype=torch.bool)
    known.index_fill_(axis, torch.tensor(list(indices), dtype=torch.int64), 0)
    if not known.any():
        raise ValueError("every slice is missing: nothing would be known")
    return known


def block_within(places: NDArray[np.bool_], size: int, seed: int) -> Tensor:
    """Return the known voxels around a missing block whose centre is drawn from `places`: bool, shaped like them.

    Raises
    ------
    ValueError
        If no block of this size with such a centre lies within the image, or it fills the image.
    """
    fits = np.zeros_like(places)
    fits[tuple(slice(size // 2, n - (size - size // 2) + 1) for n in places.shape)] = True
    centres = np.argwhere(places & fits)
    if not len(centres):
        raise ValueError(f"a hole of {size} voxels does not fit into images of shape {places.shape}")
    centre = centres[np.random.default_rng(seed).integers(len(centres))]
    return block(places.shape, [int(n) for n in centre], size)


def scattered(shape: Sequence[int], share: float, seed: int) -> Tensor:
    """Return the known voxels of an image of which a share is missing, each as likely as any other: bool *shape.

    Raises
    ------
    ValueError
        If the share is not between 0 and 1, or no voxel would be left.
    """
    voxels = int(np.prod(shape))
    missing = round(share * voxels)
    if not 0 <= missing < voxels:
        raise ValueError(f"a share of {share:g} of {voxels} voxels cannot be missing")
    known = np.ones(voxels, bool)
    known[np.random.default_rng(seed).permutation(voxels)[:missing]] = False
    return torch.from_numpy(known.reshape(tuple(shape)))
