"""How much of the samples is realistic, and how much of reality is sampled: balls around feature vectors."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Overlap:
    """Each from 0 (bad) to 1, but density, which may exceed 1.

    Attributes
    ----------
    precision : float
        Share of samples inside the balls of real images: are they realistic?
    recall : float
        Share of real images inside the balls of samples: is everything real sampled?
    density : float
        Mean number of real balls around a sample, over k; expected 1 for samples of the real distribution.
    coverage : float
        Share of real images with a sample in their ball.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def overlap(real: Tensor, samples: Tensor, *, neighbours: int = 3) -> Overlap:
    """Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

    A vector's ball reaches to its k-th nearest neighbour in its own set, itself not counted.

    Parameters
    ----------
    real, samples : Tensor, (N, F) and (M, F)
        Take N = M where recalls or coverages are compared: both change with the number of images. Memory grows with
        (N + M)².
    neighbours : int
        k; 3 in Kynkäänniemi et al.

    Raises
    ------
    ValueError
        If a set has no k + 1 vectors, or the lengths differ.
    """
    if real.ndim != 2 or samples.ndim != 2 or real.shape[1] != samples.shape[1]:
        raise ValueError(f"need features (N, F) and (M, F), got {tuple(real.shape)} and {tuple(samples.shape)}")
    if neighbours < 1 or min(len(real), len(samples)) <= neighbours:
        raise ValueError(f"{neighbours} neighbours need more images than {len(real)} real and {len(samples)} samples")
    real, samples = real.detach().double().cpu(), samples.detach().double().cpu()
    between = _distances(real, samples)
    reach, reach_of_samples = _reach(real, neighbours), _reach(samples, neighbours)
    inside = between <= reach[:, None]
    return Overlap(
        precision=float(inside.any(0).double().mean()),
        recall=float((between <= reach_of_samples).any(1).double().mean()),
        density=float(inside.double().sum(0).mean()) / neighbours,
        coverage=float(inside.any(1).double().mean()),
    )


def _distances(x: Tensor, y: Tensor) -> Tensor:
    # By differences, not by scalar products: equal vectors must be at distance 0.
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _reach(x: Tensor, neighbours: int) -> Tensor:
    return _distances(x, x).kthvalue(neighbours + 1, dim=1).values
