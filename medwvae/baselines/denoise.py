"""Classical denoising of Rician magnitude images with a known noise level.

Each filter estimates the local mean of the magnitude; the Rician bias is taken out of that mean afterwards
(`medwvae.operators.remove_rician_bias`). Parameters are in units of σ.
"""

import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medwvae.operators import Measurement, remove_rician_bias

Slices = NDArray[np.floating]


def nlm(measurement: Measurement, h: float, patch: float) -> Tensor:
    """Non-local means (Buades 2005, as in scikit-image) with cut-off `h`·σ and `patch`×`patch` patches."""
    from skimage.restoration import denoise_nl_means

    slices, sigma = _noisy(measurement)
    filtered = [
        denoise_nl_means(image, patch_size=int(patch), patch_distance=6, h=h * sigma, sigma=sigma, fast_mode=True)
        for image in slices
    ]
    return _unbiased(np.stack(filtered), sigma, measurement.start)


def tv(measurement: Measurement, weight: float) -> Tensor:
    """Total variation (Chambolle 2004, as in scikit-image) with weight `weight`·σ."""
    from skimage.restoration import denoise_tv_chambolle

    slices, sigma = _noisy(measurement)
    # A channel axis only says which axis to loop over: channels do not see each other.
    filtered = denoise_tv_chambolle(slices, weight=weight * sigma, eps=2e-5, channel_axis=0)
    return _unbiased(filtered, sigma, measurement.start)


def bayes_shrink(measurement: Measurement, moments: float, noise: float) -> Tensor:
    """Soft thresholds from BayesShrink (Chang, Yu and Vetterli 2000) averaged over 4×4 shifts (cycle spinning).

    `moments` vanishing moments of the symlet (1 is Haar); `noise` scales σ. As skimage's `denoise_wavelet` under
    `cycle_spin`, for all slices at once.
    """
    slices, sigma = _noisy(measurement)
    total = np.zeros_like(slices)
    shifts = list(itertools.product(range(4), range(4)))
    for shift in shifts:
        shifted = np.roll(slices, shift, axis=(1, 2))
        total += np.roll(_shrink(shifted, int(moments), noise * sigma), (-shift[0], -shift[1]), axis=(1, 2))
    return _unbiased(total / len(shifts), sigma, measurement.start)


def _shrink(slices: Slices, moments: int, sigma: float) -> Slices:
    import pywt

    wavelet = pywt.Wavelet("haar" if moments == 1 else f"sym{moments}")
    levels = min(3, pywt.dwtn_max_level(slices.shape[1:], wavelet))
    approximation, *details = pywt.wavedec2(slices, wavelet, "periodization", level=levels, axes=(1, 2))

    def soft(band: Slices) -> Slices:
        # Threshold σ²/σ_x; where the subband of a slice holds no more than noise, σ_x is nought and all of it goes.
        signal = np.sqrt(np.maximum(np.mean(band**2, axis=(1, 2), keepdims=True) - sigma**2, 1e-12))
        return np.asarray(pywt.threshold(band, sigma**2 / signal, "soft"))

    shrunk = [approximation, *(tuple(soft(band) for band in level) for level in details)]
    image = pywt.waverec2(shrunk, wavelet, "periodization", axes=(1, 2))
    return np.asarray(image[:, : slices.shape[1], : slices.shape[2]])


def _noisy(measurement: Measurement) -> tuple[Slices, float]:
    sigma = measurement.sigma
    if sigma is None or measurement.start.shape[1] != 1:
        raise ValueError("denoising needs a magnitude image (S, 1, H, W) and its noise level")
    return measurement.start[:, 0].cpu().numpy().astype(np.float32), sigma


def _unbiased(mean: Slices, sigma: float, like: Tensor) -> Tensor:
    return torch.from_numpy(remove_rician_bias(mean.astype(np.float32), sigma))[:, None].to(like)
