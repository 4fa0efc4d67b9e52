"""Accuracy of CT numbers against a truth, in regions of one tissue: bias, noise, noise power spectrum. All in HU."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medwvae.metrics.voxels import Array, Mask, checked

TISSUES: Final = {"soft": (0.0, 100.0), "bone": (300.0, np.inf)}
"""HU of the truth that make a region; its rim of one voxel in plane is left out, for it holds partial volumes."""


class Spectrum(NamedTuple):
    """A noise power spectrum, averaged over directions.

    Attributes
    ----------
    frequency : array (K,), 1/mm
    power : array (K,), HU² mm²
    variance : float, HU²; the integral of the two-dimensional spectrum.
    mean_frequency : float, 1/mm; Σ f·NPS / Σ NPS over the plane: falls when noise is smoothed.
    patches : int
    """

    frequency: NDArray[np.float64]
    power: NDArray[np.float64]
    variance: float
    mean_frequency: float
    patches: int


def tissue_masks(ref: Array, head: Mask) -> dict[str, Mask]:
    """Return the regions of `TISSUES` in a true volume (slices, H, W) in HU; a tissue without a voxel is left out."""
    from scipy import ndimage

    cross = ndimage.generate_binary_structure(2, 1)[None]
    found = {
        name: ndimage.binary_erosion((ref >= low) & (ref <= high) & head, cross)
        for name, (low, high) in TISSUES.items()
    }
    return {name: mask for name, mask in found.items() if mask.any()}


def hu_bias(x: Array, ref: Array, *, mask: Mask) -> float:
    """Mean of x − ref over the region, HU; 0 is best."""
    return float(_difference(x, ref)[checked(mask, x.shape)].mean())


def hu_noise(x: Array, ref: Array, *, mask: Mask) -> float:
    """Return the standard deviation of x − ref over the region, HU; 0 is best. Where tissue varies, blur counts too."""
    return float(_difference(x, ref)[checked(mask, x.shape)].std())


def noise_power(x: Array, ref: Array, *, mask: Mask, spacing: tuple[float, float], size: int = 16) -> Spectrum | None:
    """Return the noise power spectrum of x − ref in square patches of the region (ICRU 87; AAPM TG-233).

    Parameters
    ----------
    x, ref : array (slices, H, W), HU
    mask : array of bool
        Patches lie wholly inside, half overlapping; each is freed of its mean.
    spacing : (float, float)
        mm along H and W.
    size : int
        Side of a patch in voxels.

    Returns
    -------
    Spectrum or None
        None if no patch fits.
    """
    difference, inside = _difference(x, ref), checked(mask, x.shape)
    step = size // 2
    patches = [
        difference[k, i : i + size, j : j + size]
        for k in range(x.shape[0])
        for i in range(0, x.shape[1] - size + 1, step)
        for j in range(0, x.shape[2] - size + 1, step)
        if inside[k, i : i + size, j : j + size].all()
    ]
    if not patches:
        return None
    stack = np.stack(patches)
    stack = stack - stack.mean((1, 2), keepdims=True)
    power = (np.abs(np.fft.fft2(stack)) ** 2).mean(0) * spacing[0] * spacing[1] / size**2
    axes = [np.fft.fftfreq(size, step_mm) for step_mm in spacing]
    radius = np.hypot(*np.meshgrid(*axes, indexing="ij"))
    bin_width = 1 / (size * max(spacing))
    place = np.round(radius / bin_width).astype(int)
    count = np.bincount(place.ravel())
    full = count > 0
    radial = np.bincount(place.ravel(), power.ravel())[full] / count[full]
    total = float(power.sum())
    return Spectrum(
        frequency=np.asarray(np.flatnonzero(full) * bin_width, np.float64),
        power=radial,
        variance=total / (size**2 * spacing[0] * spacing[1]),
        mean_frequency=float((radius * power).sum()) / total if total > 0 else 0.0,
        patches=len(patches),
    )


def _difference(x: Array, ref: Array) -> NDArray[np.float64]:
    if x.shape != ref.shape:
        raise ValueError(f"image and reference differ in shape: {x.shape} and {ref.shape}")
    return x.astype(np.float64) - ref.astype(np.float64)
