"""Whether samples repeat training images: the nearest of them, and how near real images come."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

SIGMA: Final = 1.0
"""Standard deviation of the low-pass, voxels."""

_CHUNK: Final = 2**24
_CANDIDATES: Final = 4


@dataclass(frozen=True)
class Neighbours:
    """The nearest training image of every image.

    Attributes
    ----------
    index : Tensor, (N,), int64
        Its place in the training set, for the figure.
    distance : Tensor, (N,), float64
        Root mean square difference after the low-pass and removal of the mean, in the images' unit.
    """

    index: Tensor
    distance: Tensor


@dataclass(frozen=True)
class Memorisation:
    """Samples beside real images that were not trained on.

    Attributes
    ----------
    samples, held_out : Neighbours
        Nearest training images of the samples and of the real held-out images.
    ratio : Tensor, (N,)
        Distance of each sample over the median distance of held-out images; 1 is as far as a new subject is, well below
        1 a copy. A blurred sample is nearer to everything and may have 0.8 without being a copy: look at it.
    copies : float
        Share of samples nearer than every held-out image; about 1 / (number of held-out images + 1) is expected of new
        real images.
    """

    samples: Neighbours
    held_out: Neighbours
    ratio: Tensor
    copies: float


def smoothed(images: Tensor, sigma: float = SIGMA) -> Tensor:
    """Return (N, P) float32 vectors of (N, C, *spatial) images: Gaussian low-pass per channel, mean per image removed.

    Scaled by P^−½, so that Euclidean distances are root mean square differences.
    """
    from scipy import ndimage

    array = images.detach().cpu().numpy().astype(np.float32)
    axes = tuple(range(2, array.ndim))
    found = torch.from_numpy(np.asarray(ndimage.gaussian_filter(array, sigma, axes=axes, mode="nearest"))).flatten(1)
    return (found - found.mean(1, keepdim=True)) / math.sqrt(found.shape[1])


def nearest(images: Tensor, training: Tensor | Iterable[Tensor], *, sigma: float = SIGMA) -> Neighbours:
    """Find the nearest training image of each image; memory holds `images` and some 64 MiB of the training set.

    Parameters
    ----------
    images : Tensor, (N, C, *spatial)
    training : Tensor or iterable of Tensor
        (M, C, *spatial), or batches of them in the order that `index` counts, e.g. a loader that does not shuffle.

    Raises
    ------
    ValueError
        If there is no image or no training image, or the shapes differ.
    """
    if not len(images):
        raise ValueError("there is no image to look up")
    chunk = max(1, _CHUNK // images[0].numel())
    own = torch.split(smoothed(images, sigma), chunk)
    best = [torch.full((len(part),), torch.inf, dtype=torch.float64) for part in own]
    index = [torch.full((len(part),), -1, dtype=torch.int64) for part in own]
    start = 0
    for whole in [training] if isinstance(training, Tensor) else training:
        for some in torch.split(whole, chunk):
            if some.shape[1:] != images.shape[1:]:
                raise ValueError(f"images {tuple(images.shape[1:])}, training images {tuple(some.shape[1:])}")
            if not len(some):
                continue
            theirs = smoothed(some, sigma)
            for k, part in enumerate(own):
                place, distance = _nearest(part, theirs)
                closer = distance < best[k]
                best[k] = torch.where(closer, distance, best[k])
                index[k] = torch.where(closer, start + place, index[k])
            start += len(some)
    if start == 0:
        raise ValueError("there is no training image")
    return Neighbours(torch.cat(index), torch.cat(best))


def _nearest(own: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    # Scalar products find candidates quickly, but cancel for near copies: those few are measured by differences.
    rough = theirs.square().sum(1) - 2 * own @ theirs.T
    candidates = rough.topk(min(_CANDIDATES, len(theirs)), largest=False).indices
    distances = torch.stack(
        [torch.linalg.vector_norm(own - theirs[column], dim=1, dtype=torch.float64) for column in candidates.T], 1
    )
    distance, column = distances.min(1)
    return candidates.gather(1, column[:, None])[:, 0], distance


def memorisation(samples: Tensor, held_out: Tensor, training: Tensor | Iterable[Tensor]) -> Memorisation:
    """Compare the samples' nearest training images with those of real images that were not trained on.

    Parameters
    ----------
    samples, held_out : Tensor, (N, C, *spatial) and (H, C, *spatial)
        `held_out` must be of other subjects than `training`: slices of one subject are near copies of one another.
    training : Tensor or iterable of Tensor
        See `nearest`; read twice, so no generator that can be read only once.

    Raises
    ------
    ValueError
        As for `nearest`, or if the held-out images are training images.
    """
    if iter(training) is training:
        raise ValueError("training images are read twice: give a tensor, a list or a loader, not an iterator")
    theirs, own = nearest(held_out, training), nearest(samples, training)
    typical = theirs.distance.median()
    if not typical > 0:
        raise ValueError("held-out images are training images: there is nothing to compare samples with")
    copies = float((own.distance < theirs.distance.min()).double().mean())
    return Memorisation(own, theirs, own.distance / typical, copies)
