"""Detail by wavelet subband: how much energy an image keeps, and whether it is the right detail or noise."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from medwvae.wavelets import Mode, dwt


@dataclass(frozen=True)
class Band:
    """One subband (or several) of estimates x̂ beside their truths x, over all images; no units.

    Attributes
    ----------
    kept : float
        E‖W x̂‖² / E‖W x‖²: below 1 smoothed, above 1 too rough. Noise counts as energy.
    correlation : float
        ⟨W x̂, W x⟩ / (‖W x̂‖ ‖W x‖) in [−1, 1]; 0 for noise, and where either is zero.
    error : float
        E‖W (x̂ − x)‖² / E‖W x‖² = 1 + kept − 2 · correlation · √kept: 0 exact, 1 as bad as no detail at all. 1 − error
        is the energy that is truly there.
    """

    kept: float
    correlation: float
    error: float


def energy_kept(
    estimate: Tensor,
    truth: Tensor,
    *,
    levels: int = 3,
    finest: int = 1,
    dims: Literal[2, 3] = 2,
    wavelet: str = "db4",
    mode: Mode = "symmetric",
) -> Mapping[str, Band]:
    """Compare paired images (reconstructions with what they reconstruct) subband by subband.

    Parameters
    ----------
    estimate, truth : Tensor, (B, C, *spatial)
        In one unit.
    levels, finest : int
        Levels of the transform, and how many of the finest ones make 'high'.
    wavelet, mode : str
        See `medwvae.wavelets.dwt`. Haar would let edges leak into all subbands.

    Returns
    -------
    dict of str to Band
        'aa3', 'ad3', ..., 'dd1' as in `Coefficients.subbands`, and 'high': the details of the `finest` levels together.
        Values are NaN where the truth has no energy.

    Raises
    ------
    ValueError
        If the shapes differ or `finest` is not in 1..levels.
    """
    if estimate.shape != truth.shape:
        raise ValueError(f"estimates {tuple(estimate.shape)} and truths {tuple(truth.shape)} differ in shape")
    theirs, own = (_bands(x, levels, dims, wavelet, mode) for x in (estimate, truth))
    sums = {}
    for name, band in own.items():
        other = theirs[name]
        products = (other * other, band * band, other * band, (other - band).square())
        sums[name] = torch.stack([product.sum() for product in products])
    high = torch.stack([sums[name] for name in _high(own, levels, finest)]).sum(0)
    return {name: _band(total) for name, total in {**sums, "high": high}.items()}


def energy_ratio(
    samples: Tensor,
    real: Tensor,
    *,
    levels: int = 3,
    finest: int = 1,
    dims: Literal[2, 3] = 2,
    wavelet: str = "db4",
    mode: Mode = "symmetric",
) -> Mapping[str, float]:
    """E‖W samples‖² / E‖W real‖² per subband and for 'high', of images that have no partner; see `energy_kept`.

    The sets may differ in number. About 1 is necessary for sharp samples, not sufficient: noise has energy too.

    Raises
    ------
    ValueError
        If a set is empty, the images' shapes differ, or `finest` is not in 1..levels.
    """
    if samples.shape[1:] != real.shape[1:] or not len(samples) or not len(real):
        raise ValueError(f"cannot compare images {tuple(samples.shape)} with {tuple(real.shape)}")
    theirs, own = (
        {name: float(band.square().sum()) / len(x) for name, band in _bands(x, levels, dims, wavelet, mode).items()}
        for x in (samples, real)
    )
    high = _high(own, levels, finest)
    for energy in (theirs, own):
        energy["high"] = sum(energy[name] for name in high)
    return {name: theirs[name] / energy if energy > 0 else math.nan for name, energy in own.items()}


def _bands(x: Tensor, levels: int, dims: int, wavelet: str, mode: Mode) -> Mapping[str, Tensor]:
    return dwt(x.detach().double(), levels, dims, wavelet, mode).subbands()


def _high(bands: Mapping[str, object], levels: int, finest: int) -> list[str]:
    if not 1 <= finest <= levels:
        raise ValueError(f"of {levels} levels 1 to {levels} can be the finest, not {finest}")
    return [name for name in bands if int(name.lstrip("ad")) <= finest and "d" in name]


def _band(sums: Tensor) -> Band:
    estimate, truth, product, error = sums.tolist()
    if not truth > 0:
        return Band(math.nan, math.nan, math.nan)
    correlation = product / math.sqrt(estimate * truth) if estimate > 0 else 0.0
    return Band(estimate / truth, max(-1.0, min(1.0, correlation)), error / truth)
