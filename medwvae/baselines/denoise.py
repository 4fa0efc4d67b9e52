"""Classical denoising of images with a known noise level.

Each filter estimates the local mean of the image in units of σ, and so are its parameters. Of Rician magnitudes the
bias is taken out of that mean afterwards (`medwvae.operators.remove_rician_bias`). Poisson noise is stabilised before
and undone without bias afterwards (`medwvae.operators.anscombe`).
"""

import importlib
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medwvae.baselines.recon import symlet
from medwvae.errors import ConfigError
from medwvae.operators import Measurement, anscombe, inverse_anscombe, remove_rician_bias

Slices = NDArray[np.floating]
"""(S, H, W), in units of the noise level."""


def nlm(measurement: Measurement, h: float, patch: float) -> Tensor:
    """Non-local means (Buades 2005, as in scikit-image) with cut-off `h`·σ and `patch`×`patch` patches."""
    from skimage.restoration import denoise_nl_means

    def filtered(image: Slices) -> Slices:
        return np.asarray(denoise_nl_means(image, int(patch), patch_distance=6, h=h, sigma=1.0, fast_mode=True))

    return _denoise(measurement, lambda slices: np.stack([filtered(image) for image in slices]))


def tv(measurement: Measurement, weight: float) -> Tensor:
    """Total variation (Chambolle 2004, as in scikit-image) with weight `weight`·σ."""
    from skimage.restoration import denoise_tv_chambolle

    # A channel axis only says which axis to loop over: channels do not see each other.
    return _denoise(measurement, lambda slices: denoise_tv_chambolle(slices, weight=weight, eps=2e-5, channel_axis=0))


def bayes_shrink(measurement: Measurement, moments: float, noise: float) -> Tensor:
    """Soft thresholds from BayesShrink (Chang, Yu and Vetterli 2000) averaged over 4×4 shifts (cycle spinning).

    `moments` vanishing moments of the symlet (1 is Haar); `noise` scales σ. As skimage's `denoise_wavelet` under
    `cycle_spin`, for all slices at once.
    """
    shifts = list(itertools.product(range(4), range(4)))

    def filtered(slices: Slices) -> Slices:
        total = np.zeros_like(slices)
        for down, right in shifts:
            shrunk = _shrink(np.roll(slices, (down, right), axis=(1, 2)), moments, noise)
            total += np.roll(shrunk, (-down, -right), axis=(1, 2))
        return total / len(shifts)

    return _denoise(measurement, filtered)


def bilateral(measurement: Measurement, value: float, distance: float) -> Tensor:
    """Bilateral filter (Tomasi and Manduchi, ICCV 1998): a mean whose Gaussian weights fall with two differences.

    `value`·σ between the values of two pixels, `distance` pixels between their places, up to three of these. Written
    out here: scikit-image's (0.26) reads its table of spatial weights at the wrong places, which shifts the image.
    """

    def filtered(slices: Slices) -> Slices:
        reach = int(np.ceil(3 * distance))
        height, width = slices.shape[1:]
        padded = np.pad(slices, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
        total, weights = np.zeros_like(slices), np.zeros_like(slices)
        for down, right in itertools.product(range(-reach, reach + 1), repeat=2):
            apart = (down**2 + right**2) / distance**2
            if apart > 9:
                continue
            other = padded[:, reach + down : reach + down + height, reach + right : reach + right + width]
            weight = np.exp(-(((other - slices) / value) ** 2 + apart) / 2)
            total += weight * other
            weights += weight
        return total / weights

    return _denoise(measurement, filtered)


def bm3d(measurement: Measurement, noise: float) -> Tensor:
    """Block matching in slices (Mäkinen, Azzari and Foi 2020, their package); `noise` scales σ."""
    package = _package("bm3d")
    return _denoise(measurement, lambda slices: np.stack([package.bm3d(image, noise) for image in slices]))


def bm4d(measurement: Measurement, noise: float) -> Tensor:
    """Block matching in the volume (Maggioni, Katkovnik, Egiazarian and Foi 2013, their package); `noise` scales σ."""
    package = _package("bm4d")

    def filtered(slices: Slices) -> Slices:
        missing = max(8 - len(slices), 0)  # its blocks are up to eight voxels deep
        deep = np.pad(slices, ((0, missing), (0, 0), (0, 0)), mode="symmetric")
        return np.asarray(package.bm4d(deep, noise))[: len(slices)]

    return _denoise(measurement, filtered)


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(f"classical.extras: {name} needs its package: pip install 'medwvae[bm]'") from None


def _shrink(slices: Slices, moments: float, sigma: float) -> Slices:
    import pywt

    wavelet = pywt.Wavelet(symlet(moments))
    levels = min(3, pywt.dwtn_max_level(slices.shape[1:], wavelet))
    approximation, *details = pywt.wavedec2(slices, wavelet, "periodization", level=levels, axes=(1, 2))

    def soft(band: Slices) -> Slices:
        # Threshold σ²/σ_x; where the subband of a slice holds no more than noise, σ_x is nought and all of it goes.
        signal = np.sqrt(np.maximum(np.mean(band**2, axis=(1, 2), keepdims=True) - sigma**2, 1e-12))
        return np.asarray(pywt.threshold(band, sigma**2 / signal, "soft"))

    shrunk = [approximation, *(tuple(soft(band) for band in level) for level in details)]
    image = pywt.waverec2(shrunk, wavelet, "periodization", axes=(1, 2))
    return np.asarray(image[:, : slices.shape[1], : slices.shape[2]])


def _denoise(measurement: Measurement, mean_filter: Callable[[Slices], Slices]) -> Tensor:
    """Apply a filter for unit noise to the slices (S, H, W) and take the bias of the noise out of its result."""
    start, sigma = measurement.start, measurement.sigma
    if sigma is None or start.shape[1] != 1 or not bool((sigma > 0).all()):
        raise ValueError("denoising needs a magnitude image (S, 1, H, W) and its noise level, above 0")
    if measurement.law == "poisson":
        if measurement.maximum is None:
            raise ValueError("Poisson noise needs the volume's maximum, to which its level refers")
        unit = sigma**2 / measurement.maximum  # one count
        mean = mean_filter(anscombe((start / unit)[:, 0].float().cpu().numpy()))
        return torch.from_numpy(inverse_anscombe(mean.astype(np.float32)))[:, None].to(start) * unit
    mean = mean_filter((start / sigma)[:, 0].float().cpu().numpy()).astype(np.float32)
    unbiased = remove_rician_bias(mean, 1.0) if measurement.law == "rician" else np.maximum(mean, 0)
    return torch.from_numpy(unbiased)[:, None].to(start) * sigma
