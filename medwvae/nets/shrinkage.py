"""What the prior of a Wavelet-VAE makes of a noisy image: the posterior mean of its coefficients, coarse to fine."""

import math
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from medwvae.nets.blocks import crop_to, pad_to_multiple
from medwvae.nets.wavelet_latent import WaveletLatentVAE
from medwvae.wavelets import dwt, synthesise

_LEAST = -9.0
"""Below it erfcx overflows single precision; the other half's weight is nought there."""
_NARROW = 1e3
"""Densities narrower than the noise by more than this are as good as a point, but would cost all digits."""
_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def gaussian_mean(noisy: Tensor, variance: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """E[c | c + n] for c ~ N(mean, scale²), n ~ N(0, variance)."""
    return noisy + variance / (variance + scale.square()) * (mean - noisy)


def _weight(x: Tensor) -> Tensor:
    weight: Tensor = torch.special.erfcx(x.clamp(min=_LEAST))
    return weight


def laplace_mean(noisy: Tensor, variance: Tensor, location: Tensor, scale: Tensor) -> Tensor:
    """E[c | c + n] for c ~ Laplace(location, scale), n ~ N(0, variance): a smooth soft threshold about the location.

    Johnstone and Silverman (Ann Stat 33, 2005) have it for location 0. With δ = noisy − location and r = variance /
    scale, the posterior is two halves of Gaussians about δ ∓ r, of weights w± ∝ exp(∓δ / scale) Φ((±δ − r) / σ). What
    their cut tails add cancels, and so does a common exponential: the mean is noisy − r (w₊ − w₋) / (w₊ + w₋) with
    w± ∝ erfcx((r ∓ δ) / √2σ), where nothing is a difference of large numbers.
    """
    deviation = variance.sqrt()
    reach = variance / torch.maximum(scale, deviation / _NARROW)
    delta, unit = noisy - location, deviation * math.sqrt(2)
    above, below = (_weight((reach - side) / unit) for side in (delta, -delta))
    return noisy - reach * (above - below) / (above + below)


@torch.no_grad()
def prior_mean(model: WaveletLatentVAE, noisy: Tensor, variance: Tensor, label: Tensor | None = None) -> Tensor:
    """Estimate E[x | x + n] under p(a_J) Π p(d_j | a_j): each level given the estimate of the coarser ones.

    Nothing was trained for noise: what the densities make of a noisy coefficient is known in closed form.

    Parameters
    ----------
    model : WaveletLatentVAE
        In ELBO mode at rate 1, so that every coefficient has a density.
    noisy : Tensor
        x + n, (B, C, *spatial) of any size (padded by replication).
    variance : Tensor
        Of the noise n, independent and above 0; (B or 1, 1, *spatial), or axes of 1. Where it differs from pixel to
        pixel, a coefficient meets the mean over the block of pixels that it stands for (exact for Haar).
    label : Tensor, optional
        Class of each image, int64, (B,).

    Raises
    ------
    ValueError
        If some coefficient has no density.
    """
    if model.objective != "elbo" or model.rate != 1:
        raise ValueError("the prior of every coefficient is needed: a Wavelet-VAE in ELBO mode at rate 1")
    noisy = noisy.float()
    varies = any(size > 1 for size in variance.shape[2:])
    padded = pad_to_multiple(noisy, 2**model.levels, model.dims)
    spread = pad_to_multiple(variance.float(), 2**model.levels, model.dims) if varies else variance.float()
    exactly = partial(torch.autocast, noisy.device.type, enabled=False)  # of mixed precision only the prior makes use
    with exactly():
        coefficients = dwt(padded, model.levels, model.dims, model.wavelet, "periodization")

    def at(level: int) -> Tensor:
        return _POOL[model.dims](spread, 2**level) if varies else spread

    image = gaussian_mean(coefficients.approximation, at(model.levels), *model.coarse_density())
    for level, details in zip(range(model.levels, 0, -1), coefficients.details, strict=True):
        location, scale = model.prior(image, level, label)
        with exactly():
            mean = laplace_mean(details.flatten(1, 2), at(level), location.float(), scale.float())
            image = synthesise(image, torch.unflatten(mean, 1, details.shape[1:3]), wavelet=model.wavelet)
    return crop_to(image, tuple(noisy.shape[2:]))
