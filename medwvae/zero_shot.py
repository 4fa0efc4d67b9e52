"""Restoration by the prior of a generative Wavelet-VAE alone: no task is trained for.

Half-quadratic splitting with a falling noise level, as in plug-and-play restoration (Zhang et al., IEEE TPAMI 44,
2022): the mean of the image given the last one as a noisy one, and what was measured, in turn. The denoiser is no
network that was trained to denoise but the closed form of `medwvae.nets.shrinkage`. docs/model.md has the mathematics.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from medwvae.baselines import Classical, Params, grid_of
from medwvae.names import ZERO_SHOT, Task
from medwvae.nets.shrinkage import prior_mean
from medwvae.nets.wavelet_latent import WaveletLatentVAE
from medwvae.operators import Measurement, magnitude, remove_rician_bias

PHASE = 0.15
"""Standard deviation in radians of the error that demodulation leaves in the phase (0.15 in a head of IXI at 4×)."""

GRIDS: dict[Task, tuple[Params, ...]] = {
    "denoise": grid_of(noise=(0.8, 0.9, 1.0, 1.1), shifts=(16,)),
    "superres": grid_of(first=(0.1, 0.3), last=(0.003, 0.01, 0.03), steps=(16,)),
    "recon": grid_of(first=(0.1, 0.3), last=(0.003, 0.01), steps=(16, 32)),
    "ct": grid_of(first=(0.03, 0.1, 0.3), last=(0.003, 0.01), steps=(16,)),
    "inpaint": grid_of(first=(1.0, 3.0, 10.0), last=(0.03, 0.1), steps=(32,)),
}
"""What is tried on validation subjects; see `denoised` and `restored`.

More steps are better and as much slower: four times as many gain 0.12 dB at SR ×2, 0.28 dB at ×4 and 0.4 dB in CT of 30
views; three times as many 0.4 dB in inpainting and 0.5 dB in reconstruction 4×, but 8× loses by them.
"""


def zero_shot(model: WaveletLatentVAE, task: Task, *, batch: int = 24, mixed: torch.dtype | None = None) -> Classical:
    """Return the method of a task, to be tuned as the classical ones are.

    Parameters
    ----------
    model : WaveletLatentVAE
        Trained, in ELBO mode at rate 1; its device does the work.
    batch : int
        The most slices at once.
    mixed : torch.dtype, optional
        Type of autocast, as in training; None for float32. Transforms and data consistency stay in float32.
    """
    one = denoised if task == "denoise" else restored
    return Classical(ZERO_SHOT, task, partial(_in_batches, one, model.eval(), batch, mixed), GRIDS[task])


def denoised(model: WaveletLatentVAE, measurement: Measurement, noise: float, shifts: float) -> Tensor:
    """Estimate the mean of the image given a noisy one, averaged over `shifts` shifts of the wavelet grid.

    Of Rician magnitudes the bias is taken out afterwards, as of the classical filters. Poisson noise has its own
    variance in every pixel, read off the local mean.

    Parameters
    ----------
    noise : float
        Standard deviation that is assumed, as a multiple of the known one.
    """
    start, sigma = measurement.start, measurement.sigma
    if sigma is None or start.shape[1] != 1:
        raise ValueError("denoising needs a magnitude image (S, 1, H, W) and its noise level")
    variance = (noise * sigma).square().to(start)
    if measurement.law == "poisson":
        if measurement.maximum is None:
            raise ValueError("Poisson noise needs the volume's maximum, to which its level refers")
        count = sigma.square() / measurement.maximum
        local = F.avg_pool2d(start, 3, stride=1, padding=1, count_include_pad=False)
        variance = noise**2 * count * torch.maximum(local, count)
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros_like(start)
    for _ in range(int(shifts)):
        total += _estimate(model, start, variance, generator, measurement.label)
    mean = total / int(shifts)
    if measurement.law == "rician":
        units = (mean / sigma).cpu().numpy()
        mean = torch.from_numpy(remove_rician_bias(units, 1.0)).to(start) * sigma
    return mean.clamp(min=0)


def restored(model: WaveletLatentVAE, measurement: Measurement, first: float, last: float, steps: float) -> Tensor:
    """Alternate between the estimate at a noise level that falls geometrically and `Measurement.project`.

    The last word is the data's: what is known exactly is exact; noisy samples are weighed against the estimate, whose
    error is taken to be the level. Each estimate is made on a wavelet grid shifted by chance, which stands in for a
    transform that moves with the image. Of a demodulated image the prior speaks of the real part; the imaginary part is
    the error of the phase, normal with deviation `PHASE` times the real part.

    Parameters
    ----------
    first, last : float
        Noise levels of the first and the last estimate, network units.
    steps : float
        Number of estimates.
    """
    generator = torch.Generator().manual_seed(0)
    image = measurement.start
    for step in range(int(steps)):
        level = first * (last / first) ** (step / max(steps - 1, 1))
        variance = image.new_full((1, 1, 1, 1), level**2)
        real = _estimate(model, image[:, :1], variance, generator, measurement.label).clamp(min=0)
        phase = (PHASE * real).square()
        image = measurement.project(torch.cat((real, image[:, 1:] * (phase / (phase + variance))), dim=1), level)
    return magnitude(image).clamp(min=0)


def _estimate(
    model: WaveletLatentVAE, image: Tensor, variance: Tensor, generator: torch.Generator, label: Tensor | None
) -> Tensor:
    """`prior_mean` of the image on a grid shifted by chance."""
    down, right = torch.randint(0, 2**model.levels, (2,), generator=generator).tolist()
    there, back = ((down, right), (-2, -1)), ((-down, -right), (-2, -1))
    moved = variance.roll(*there) if variance.shape[-1] > 1 else variance
    return prior_mean(model, image.roll(*there), moved, label).roll(*back)


def _in_batches(
    one: Callable[..., Tensor],
    model: WaveletLatentVAE,
    batch: int,
    mixed: torch.dtype | None,
    measurement: Measurement,
    **params: float,
) -> Tensor:
    device, start = model.log_sigma.device, measurement.start
    parts = [measurement[first : first + batch].to(device) for first in range(0, len(start), batch)]
    with torch.autocast(device.type, dtype=mixed, enabled=mixed is not None):
        return torch.cat([one(model, part, **params) for part in parts]).to(start)
