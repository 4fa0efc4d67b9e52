"""One call for a table: samples of a model beside real images, as named numbers."""

import math
from typing import Literal

import torch
from torch import Tensor

from medwvae.fidelity.distances import frechet_distance, mmd, principal_components
from medwvae.fidelity.diversity import diversity
from medwvae.fidelity.features import Features, extract
from medwvae.fidelity.manifolds import overlap
from medwvae.fidelity.spectrum import energy_ratio


def compare(
    real: Tensor,
    samples: Tensor,
    features: Features,
    *,
    data_range: float,
    components: int | None = None,
    dims: Literal[2, 3] = 2,
    levels: int = 3,
    pairs: int = 500,
    seed: int = 0,
) -> dict[str, float]:
    """Return how near `samples` come to `real` images of subjects that were not trained on.

    Parameters
    ----------
    real, samples : Tensor, (N, C, *spatial) and (M, C, *spatial)
        In one unit. Also reconstructions in place of samples. Compare models only with the same N and M.
    features : Features
        See `medwvae.fidelity.features`; write its name beside the numbers.
    data_range : float
        Of the images, for MS-SSIM.
    components : int, optional
        Principal components of the real features in which the Fréchet distance is measured; by default all features if
        both sets have twice as many images, otherwise at most 64 and at most half the smaller set.
    levels : int
        Of the wavelet transform for the energy.

    Returns
    -------
    dict of str to float
        'frechet', its 'frechet_components' and 'frechet_variance' (share of the real variance in them); 'frechet_real':
        the same distance between random halves of the real images, a bound from above of what perfect samples would
        get, NaN for fewer than four; 'mmd', 'mmd_error'; 'precision', 'recall', 'density', 'coverage' (k = 3);
        'ms_ssim', 'ms_ssim_real', 'ms_ssim_scales'; 'energy_high' (finest level); 'real', 'samples' (how many).

    Raises
    ------
    ValueError
        If shapes differ, there are fewer than four images of a kind, or features are not finite.
    """
    if real.shape[1:] != samples.shape[1:] or real.ndim != dims + 2:
        raise ValueError(f"cannot compare {tuple(samples.shape)} with {tuple(real.shape)} in {dims}D")
    theirs, own = extract(features, real), extract(features, samples)
    smaller = min(len(theirs), len(own))
    if components is None:
        components = theirs.shape[1] if smaller >= 2 * theirs.shape[1] else max(1, min(64, smaller // 2))
    basis = principal_components(theirs, components)
    flat, flat_own = basis(theirs), basis(own)
    order = torch.randperm(len(flat), generator=torch.Generator().manual_seed(seed))
    halves = flat[order].chunk(2)
    discrepancy, balls = mmd(own, theirs, seed=seed), overlap(theirs, own)
    alike, alike_real = (
        diversity(x, data_range=data_range, dims=dims, pairs=pairs, seed=seed) for x in (samples, real)
    )
    energy = energy_ratio(samples, real, levels=levels, dims=dims)
    return {
        "frechet": frechet_distance(flat_own, flat),
        "frechet_components": float(components),
        "frechet_variance": basis.kept,
        "frechet_real": frechet_distance(*halves) if len(flat) >= 4 else math.nan,
        "mmd": discrepancy.value,
        "mmd_error": discrepancy.error,
        "precision": balls.precision,
        "recall": balls.recall,
        "density": balls.density,
        "coverage": balls.coverage,
        "ms_ssim": alike.mean,
        "ms_ssim_real": alike_real.mean,
        "ms_ssim_scales": float(alike.scales),
        "energy_high": energy["high"],
        "real": float(len(theirs)),
        "samples": float(len(own)),
    }
