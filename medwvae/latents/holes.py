"""Masks of what is known of an image: everything but a block, or but some slices."""

from collections.abc import Sequence

import torch
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


def missing_slices(shape: Sequence[int], indices: Sequence[int], axis: int = 0) -> Tensor:
    """Return the known voxels of a volume without some of its slices: bool *shape.

    Raises
    ------
    ValueError
        If it is no volume (a model of slices knows nothing about a slice's neighbours), an index lies outside, or no
        slice is left.
    """
    if len(shape) != 3:
        raise ValueError(
            f"slices are missing from volumes; an image of shape {tuple(shape)} is one, and a model of slices knows "
            "nothing of its neighbours: use a 3D model"
        )
    if any(not 0 <= k < shape[axis] for k in indices):
        raise ValueError(f"there are slices 0 to {shape[axis] - 1} along axis {axis}; got {list(indices)}")
    known = torch.ones(tuple(shape), dtype=torch.bool)
    known.index_fill_(axis, torch.tensor(list(indices), dtype=torch.int64), 0)
    if not known.any():
        raise ValueError("every slice is missing: nothing would be known")
    return known
