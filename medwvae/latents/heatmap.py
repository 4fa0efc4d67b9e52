"""Maps of coefficient magnitude per level and orientation, on the grid of the image."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medwvae.latents.places import places
from medwvae.wavelets import Coefficients

Heatmaps = Mapping[int, Mapping[str, Tensor]]
"""Level, coarse to fine, and subband letters to a map (B, C, *spatial)."""


def heatmaps(coefficients: Coefficients, *, normalise: bool = True, approximation: bool = False) -> Heatmaps:
    """Return |coefficient| of every detail subband, each voxel that of the coefficient whose centre is nearest.

    Centres are those of the synthesis' energy (`places`), so that a map lies on what it shows in any family and mode.

    Parameters
    ----------
    coefficients : Coefficients
        Of images, or of a model whose latent they are; real or complex.
    normalise : bool
        Divide each level of each image by its largest magnitude over all orientations and channels: maps in [0, 1],
        comparable between the orientations of a level, not between levels.
    approximation : bool
        Also the coarsest approximation, under the letters 'a', 'aa' or 'aaa' of the coarsest level; not normalised.
    """
    found: dict[int, dict[str, Tensor]] = {}
    for level, bands in coefficients:
        axes = places(coefficients, level)
        maps = {
            name: _upsampled(band, [along.nearest(letter) for letter, along in zip(name, axes, strict=True)])
            for name, band in bands.items()
        }
        if normalise:
            largest = torch.stack([one.flatten(1).amax(1) for one in maps.values()]).amax(0)
            largest = torch.where(largest > 0, largest, 1).reshape(-1, *[1] * (1 + coefficients.spatial_dims))
            maps = {name: one / largest for name, one in maps.items()}
        if approximation and level == coefficients.levels:
            nearest = [along.nearest("a") for along in axes]
            maps = {"a" * coefficients.spatial_dims: _upsampled(coefficients.approximation, nearest), **maps}
        found[level] = maps
    return found


def _upsampled(band: Tensor, nearest: Sequence[NDArray[np.intp]]) -> Tensor:
    magnitude = band.abs()
    for axis, index in enumerate(nearest):
        magnitude = magnitude.index_select(2 + axis, torch.from_numpy(index).to(band.device))
    return magnitude
