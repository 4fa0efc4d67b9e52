"""Exactness figures of docs/wavelets.md: python benchmarks/wavelet_exactness.py.

Every discrete wavelet of PyWavelets in every mode, 64 and 129 samples, two levels; precisions on noise of 64 x 64 x 64
voxels, three levels, the worst of four wavelets and modes.
"""

import warnings
from collections.abc import Callable

import numpy as np
import pywt
import torch
from torch import Tensor

from medwvae.wavelets import MODES, Mode, dwt, idwt

FOUR: tuple[tuple[str, Mode], ...] = (
    ("haar", "periodization"),
    ("db4", "symmetric"),
    ("sym8", "boundary"),
    ("bior4.4", "zero"),
)
INEXACT = ("sym18", "sym19", "sym20")
"""Filters that PyWavelets prints with fewer digits."""


def group(wavelet: str) -> str:
    return "sym18 to sym20" if wavelet in INEXACT else pywt.Wavelet(wavelet).short_family_name


def all_families() -> None:
    rng = np.random.default_rng(0)
    same = 0.0
    missed: dict[tuple[str, bool], float] = {}
    for wavelet in pywt.wavelist(kind="discrete"):
        for mode in MODES:
            for size in (64, 129):
                x = rng.standard_normal(size)
                c = dwt(torch.from_numpy(x)[None, None], 2, 1, wavelet, mode)
                error = float(np.abs(idwt(c).numpy() - x).max() / np.abs(x).max())
                key = group(wavelet), mode == "boundary"
                missed[key] = max(missed.get(key, 0.0), error)
                if mode == "boundary":
                    continue
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # more levels than PyWavelets advises
                    theirs = pywt.wavedec(x, wavelet, mode, level=2)
                own = (c.approximation, *c.details)
                same = max(same, *(np.abs(a.numpy().ravel() - b).max() for a, b in zip(own, theirs, strict=True)))
    print(f"float64, largest difference from PyWavelets: {same:.1e}")
    for family in dict.fromkeys(name for name, _ in missed):
        print(f"inverse, {family}: {missed[family, False]:.1e}, boundary {missed[family, True]:.1e}")
    x = rng.standard_normal(256)
    theirs = pywt.waverec(pywt.wavedec(x, "dmey", "periodization", level=1), "dmey", "periodization")
    print(f"inverse, dmey, PyWavelets: {np.abs(theirs - x).max() / np.abs(x).max():.1e}")


def orthonormality() -> None:
    eye, worst_defect = torch.eye(96, dtype=torch.float64), (0.0, "")
    for wavelet in pywt.wavelist(kind="discrete"):
        if pywt.Wavelet(wavelet).orthogonal:
            c = dwt(eye[:, None], 1, 1, wavelet, "boundary")
            rows = torch.cat((c.approximation, c.details[0][:, 0]), dim=-1)[:, 0]
            worst_defect = max(worst_defect, (float((rows @ rows.T - eye).abs().max()), wavelet))
    print(f"boundary, orthonormal families, largest entry of A A^T - 1: {worst_defect}")


def worst(image: Tensor, measure: Callable[[Tensor, Tensor, Tensor], float]) -> float:
    errors = []
    for wavelet, mode in FOUR:
        exact, found = (dwt(x, 3, 3, wavelet, mode).subbands() for x in (image.double(), image))
        errors += [measure(found[name].double(), exact[name], image.double()) for name in exact]
    return max(errors)


def of_band(found: Tensor, exact: Tensor, image: Tensor) -> float:
    return float((found - exact).abs().max() / exact.abs().max())


def of_image(found: Tensor, exact: Tensor, image: Tensor) -> float:
    return float((found - exact).abs().max() / image.abs().max())


def of_each(found: Tensor, exact: Tensor, image: Tensor) -> float:
    seen = exact.abs() > 1e-2  # smaller ones are below float32's own error, or subnormal in float16
    return float(((found - exact).abs()[seen] / exact.abs()[seen]).max())


def precisions() -> None:
    noise = torch.randn(1, 1, 64, 64, 64, generator=torch.Generator().manual_seed(0))
    for name, image in (("noise", noise), ("noise of 20 on -1000", 20 * noise - 1000)):
        print(f"float32, {name}: {worst(image, of_band):.1e} of the subband's largest, ", end="")
        print(f"{worst(image, of_image):.1e} of the image's largest")
    for dtype in (torch.bfloat16, torch.float16):
        print(f"{dtype}, noise: {worst(noise.to(dtype), of_each):.5f} of each coefficient")
    for wavelet, mode in FOUR:
        back = (idwt(dwt(noise, 3, 3, wavelet, mode)) - noise).abs().max() / noise.abs().max()
        print(f"float32, {wavelet}, {mode}: inverse {float(back):.1e}")
    peak = dwt(torch.full((1, 1, 16, 16, 16), 3071.0, dtype=torch.float16), 3, 3).approximation.max()
    print(f"constant 3071 in float16: {float(peak)}")


if __name__ == "__main__":
    all_families()
    orthonormality()
    precisions()
