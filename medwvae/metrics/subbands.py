"""Error of each wavelet subband: at which scale and in which direction detail was lost."""

from typing import Final, Literal

import torch
from torch.nn import functional as F

from medwvae.metrics.voxels import Image, Mask, checked, tensor_of
from medwvae.wavelets import dwt

LEVELS: Final = 3


def subband_errors(
    x: Image, ref: Image, *, dims: Literal[2, 3], mask: Mask | None = None, levels: int = LEVELS
) -> dict[str, float]:
    """Return ‖W(x − ref)‖² / ‖W ref‖² for every subband of the Haar transform, by name ('aa3', 'ad3', ..., 'dd1').

    Haar, because its coefficients belong to one block of 2^level voxels each: with a mask, those count of whose block
    at least half lies in it. Names: one letter per axis, `a` low-pass, `d` high-pass; level 1 is the finest. A subband
    in which the reference has nothing is left out.

    Raises
    ------
    ValueError
        If shapes differ or the mask does not fit.
    """
    if x.shape != ref.shape:
        raise ValueError(f"image and reference differ in shape: {tuple(x.shape)} and {tuple(ref.shape)}")
    a, b = (tensor_of(f).double().reshape(-1, 1, *f.shape[-dims:]) for f in (x, ref))
    shares = {}
    if mask is not None:
        inside = torch.from_numpy(checked(mask, tuple(x.shape))).to(a.device).double().reshape(b.shape)
        pool = F.avg_pool2d if dims == 2 else F.avg_pool3d
        shares = {
            level: pool(inside, 2**level, ceil_mode=True, count_include_pad=False) >= 0.5
            for level in range(1, levels + 1)
        }
    own, lost = (dwt(f, levels, dims).subbands() for f in (b, a - b))
    found = {}
    for name, band in own.items():
        chosen = shares.get(int(name.lstrip("ad")))
        truth, error = (band, lost[name]) if chosen is None else (band[chosen], lost[name][chosen])
        energy = float((truth**2).sum())
        if energy > 0:
            found[name] = float((error**2).sum()) / energy
    return found
