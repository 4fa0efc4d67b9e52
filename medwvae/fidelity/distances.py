"""Distances between two sets of feature vectors: Fréchet and MMD. Rows are images; numbers depend on the features."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Basis:
    """Principal components of a reference set: the few directions in which few images can be compared.

    Attributes
    ----------
    mean : Tensor, (F,)
    directions : Tensor, (F, K)
        Orthonormal, by falling variance.
    kept : float
        Share of the reference's variance along them.
    """

    mean: Tensor
    directions: Tensor
    kept: float

    def __call__(self, features: Tensor) -> Tensor:
        """Return coordinates of (N, F) features, (N, K)."""
        return (features.double() - self.mean) @ self.directions


def principal_components(reference: Tensor, components: int) -> Basis:
    """Fit `components` directions to the REAL images' features (N, F) alone, so that every model is judged in the same.

    Raises
    ------
    ValueError
        If there are not as many directions: at most min(N − 1, F).
    """
    reference = _checked(reference)
    most = min(len(reference) - 1, reference.shape[1])
    if not 1 <= components <= most:
        raise ValueError(f"{tuple(reference.shape)} features have 1 to {most} components, not {components}")
    mean = reference.mean(0)
    _, values, directions = torch.linalg.svd(reference - mean, full_matrices=False)
    power = values.square()
    total = float(power.sum())
    kept = float(power[:components].sum()) / total if total > 0 else 1.0
    return Basis(mean, directions[:components].T.contiguous(), kept)


def gaussian_frechet(mean: Tensor, covariance: Tensor, mean_2: Tensor, covariance_2: Tensor) -> float:
    """Squared Fréchet distance of two Gaussians (Dowson and Landau 1982), in squared units of the vectors.

    ‖μ − μ₂‖² + tr Σ + tr Σ₂ − 2 tr (Σ Σ₂)^½. The last trace is ‖Σ^½ Σ₂^½‖ in the nuclear norm: no root of a matrix
    that is not symmetric, hence neither complex numbers nor a ridge when Σ is singular.

    Parameters
    ----------
    mean, mean_2 : Tensor, (F,)
    covariance, covariance_2 : Tensor, (F, F)
        Symmetric, positive semidefinite.
    """
    roots = []
    for matrix in (covariance, covariance_2):
        values, vectors = torch.linalg.eigh(matrix.double())
        roots.append((vectors * values.clamp(min=0).sqrt()).T)
    return _frechet(mean.double() - mean_2.double(), roots[0], roots[1])


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """Squared Fréchet distance of Gaussians fitted to features x (N, F) and y (M, F): the FID of Heusel et al. 2017.

    0 for equal sets; symmetric; biased upward by an amount that falls like 1/N (Chong and Forsyth 2020): compare only
    numbers of the same N, M and F. Covariances are unbiased (N − 1). Any N, F ≥ 2 and 1: with N ≤ F the covariance is
    singular and the distance still exact for the fitted Gaussians, but its bias is large; see `principal_components`.

    Raises
    ------
    ValueError
        If a set has fewer than two vectors, or the lengths differ.
    """
    x, y = _pair(x, y)
    roots = [_triangle((z - z.mean(0)) / math.sqrt(len(z) - 1)) for z in (x, y)]
    return _frechet(x.mean(0) - y.mean(0), roots[0], roots[1])


def _frechet(shift: Tensor, a: Tensor, b: Tensor) -> float:
    """Distance for covariances AᵀA and BᵀB: the singular values of ABᵀ are the roots of the eigenvalues of AᵀA BᵀB."""
    cross = float(torch.linalg.svdvals(a @ b.T).sum())
    return max(0.0, float(shift.square().sum() + a.square().sum() + b.square().sum()) - 2 * cross)


def _triangle(rows: Tensor) -> Tensor:
    """Return A of at most F rows with the same AᵀA."""
    return torch.linalg.qr(rows, mode="r").R if len(rows) > rows.shape[1] else rows


def frechet_infinity(x: Tensor, y: Tensor, *, points: int = 8, seed: int = 0) -> float:
    """Fréchet distance without the bias of few samples: a line in 1/N through subsets of `x`, read at 1/N = 0.

    FID∞ (Chong and Forsyth 2020) with `points` sizes from N/4 to N of `x` (samples) against all of `y` (real); the bias
    that the finite number of *real* images brings stays, and is the same for every model. May be slightly negative.

    Raises
    ------
    ValueError
        As for `frechet_distance`; also if there are fewer than 16 samples or 2 points.
    """
    x, y = _pair(x, y)
    if len(x) < 16 or points < 2:
        raise ValueError(f"the extrapolation needs 16 samples and 2 points, got {len(x)} and {points}")
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.linspace(len(x) / 4, len(x), points).round().long().tolist()
    values = [frechet_distance(x[torch.randperm(len(x), generator=generator)[:size]], y) for size in sizes]
    inverse = torch.tensor([[1.0, 1 / size] for size in sizes], dtype=torch.float64)
    line = torch.linalg.lstsq(inverse, torch.tensor(values, dtype=torch.float64)[:, None]).solution
    return float(line[0])


@dataclass(frozen=True)
class Mmd:
    """Squared maximum mean discrepancy, unbiased (may be negative), and its standard error over disjoint subsets."""

    value: float
    error: float


def mmd(x: Tensor, y: Tensor, *, blocks: int = 10, seed: int = 0) -> Mmd:
    """Unbiased MMD² of features x (N, F) and y (M, F), kernel (x·y / F + 1)³: the KID of Bińkowski et al. 2018.

    Mean 0 for sets of one distribution, whatever their sizes. Not invariant to scale: compare within one extractor.

    Parameters
    ----------
    blocks : int
        Number of disjoint random subsets whose estimates give the standard error, sd / √blocks; lowered so that every
        subset has two vectors of both sets. The estimate over everything varies no more than their mean, so the error
        errs on the large side; NaN if there is one subset only.

    Raises
    ------
    ValueError
        If a set has fewer than two vectors, or the lengths differ.
    """
    x, y = _pair(x, y)
    blocks = max(1, min(blocks, len(x) // 2, len(y) // 2))
    generator = torch.Generator().manual_seed(seed)
    kxx, kyy, kxy = ((a @ b.T / x.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    rows, columns = (torch.randperm(len(z), generator=generator).tensor_split(blocks) for z in (x, y))
    values = torch.stack([_unbiased(kxx, kyy, kxy, i, j) for i, j in zip(rows, columns, strict=True)])
    everything = _unbiased(kxx, kyy, kxy, torch.arange(len(x)), torch.arange(len(y)))
    error = float(values.std()) / math.sqrt(blocks) if blocks > 1 else math.nan
    return Mmd(float(everything), error)


def _unbiased(within: Tensor, within_2: Tensor, between: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """MMD²_u (Gretton et al. 2012, lemma 6) of rows i of x and j of y."""
    terms = []
    for kernel, rows in ((within, i), (within_2, j)):
        block = kernel[rows][:, rows]
        terms.append((block.sum() - block.trace()) / (len(rows) * (len(rows) - 1)))
    return terms[0] + terms[1] - 2 * between[i][:, j].mean()


def _pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    x, y = _checked(x), _checked(y)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"features differ in length: {x.shape[1]} and {y.shape[1]}")
    return x, y


def _checked(x: Tensor) -> Tensor:
    if x.ndim != 2 or len(x) < 2 or x.shape[1] < 1:
        raise ValueError(f"need features (N, F) of two images or more, got shape {tuple(x.shape)}")
    return x.detach().double().cpu()
