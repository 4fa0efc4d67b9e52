"""Training without clean images: what was measured is split, networks see one part and are judged by the other.

Noise2Self for denoising, SSDU for accelerated MRI ([model](model.md)). Both wrap a degradation: the answer to what
remains is compared with what was held out (`held_loss`), in training and in validation alike. The clean image reaches
neither.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from medwvae.degradation import Neighbourhoods, Recon, Simulated, TaskDegradation
from medwvae.operators import CoilSampling, FourierSampling, Masking, Measurement, remove_rician_bias, rician_mean

Answer = Callable[[Measurement], Tensor]
"""Measurement to the magnitude image."""

SPACING = 3
"""Of the pixels that Noise2Self holds out, along both axes; its square is the number of answers to one image."""
WINDOW = 1.5
"""Standard deviation in pixels of the window in which an answer's error is estimated."""
HELD = 0.4
"""Fraction of the samples outside the centre that SSDU holds out; Yaman et al. found 0.4 of all to be best."""
SPREAD = 0.25
"""Standard deviation of the density of SSDU's held-out samples about the centre, as a fraction of each axis."""


@dataclass(frozen=True)
class SelfSupervised:
    """A degradation whose measurements are split in two."""

    degrade: TaskDegradation | Neighbourhoods

    @property
    def count(self) -> int:
        """Slices on either side that are measured as well."""
        return self.degrade.count if isinstance(self.degrade, Neighbourhoods) else 0


class Noise2Self(SelfSupervised):
    """Pixels on a grid are replaced by the mean of their neighbours, and the answer is compared with them there.

    J-invariant masking (Batson and Royer, ICML 2019): where noise is independent from pixel to pixel, the squared error
    to held-out noisy pixels is that to the clean ones, up to a constant. The grid's place is drawn for each slice. What
    is learned is to answer without the pixel itself; `blended` restores by that.

    Attributes
    ----------
    degrade : Degradation
        Noise of a known level; of slices between their neighbours also `Neighbourhoods`, which are seen as they are.
    """

    def __call__(self, image: Tensor, maximum: Tensor, generator: torch.Generator, run: int | None) -> Simulated:
        """See `Degradation`; the truth is the noisy image."""
        seen = self.degrade(image, maximum, generator, run).measurement
        held = grid(seen.start, generator)
        masked = torch.where(held, mean_of_neighbours(seen.start), seen.start)
        operator = Masking(held)
        target = replace(seen, operator=operator, data=operator.forward(seen.start), neighbours=None)
        return Simulated(replace(seen, start=masked), seen.start, target)


class SSDU(SelfSupervised):
    """Samples of k-space are split in two: networks reconstruct from one part, the loss is taken in the other.

    Yaman et al., Magn Reson Med 84 (2020). Held-out samples are drawn with a Gaussian density about the centre of
    k-space, one by one, also where whole columns were measured. The centre from which the phase is estimated stays with
    the networks, so that the demodulation tells nothing of what is held out.

    Attributes
    ----------
    degrade : Degradation
        `Recon`; of slices between their neighbours `Neighbourhoods` of it, which are seen as they are.
    """

    def __call__(self, image: Tensor, maximum: Tensor, generator: torch.Generator, run: int | None) -> Simulated:
        """See `Degradation`; the truth is the start image of all that was measured."""
        seen = self.degrade(image, maximum, generator, run).measurement
        recon = self.degrade.degrade if isinstance(self.degrade, Neighbourhoods) else self.degrade
        if not isinstance(recon, Recon) or seen.mask is None:
            raise ValueError("SSDU needs samples of k-space")
        height, width = image.shape[-2:]
        rows = round(height * recon.centre) if recon.pattern == "poisson-disc" else height
        sampled = seen.mask.expand(len(seen.start), 1, height, width)
        held = split(sampled, (rows, round(width * recon.centre)), generator)
        start = _restricted(seen, sampled & ~held)
        return Simulated(start, seen.start, replace(_restricted(seen, held), neighbours=None))


def grid(image: Tensor, generator: torch.Generator) -> Tensor:
    """Return which pixels are held out, bool (B, 1, H, W): every `SPACING`-th along both axes, from a drawn one on."""
    batch, _, height, width = image.shape
    offsets = torch.randint(SPACING, (batch, 2), generator=generator)
    down = (torch.arange(height) - offsets[:, :1]) % SPACING == 0
    right = (torch.arange(width) - offsets[:, 1:]) % SPACING == 0
    return (down[:, None, :, None] & right[:, None, None, :]).to(image.device)


def mean_of_neighbours(image: Tensor) -> Tensor:
    """Return the mean of the eight pixels around each, (B, 1, H, W); the diagonal ones count half, none beyond."""
    kernel = torch.tensor([[0.5, 1, 0.5], [1, 0, 1], [0.5, 1, 0.5]]).to(image)[None, None]
    total, weight = (F.conv2d(x, kernel, padding=1) for x in (image, torch.ones_like(image[:1])))
    return total / weight


def answer_without_own(answer: Answer, measurement: Measurement) -> Tensor:
    """Restore every pixel from the others: one answer for each place of the grid (B, 1, H, W)."""
    start = measurement.start
    mean, out = mean_of_neighbours(start), torch.empty_like(start)
    for down in range(SPACING):
        for right in range(SPACING):
            masked = start.clone()
            masked[..., down::SPACING, right::SPACING] = mean[..., down::SPACING, right::SPACING]
            image = answer(replace(measurement, start=masked))
            out[..., down::SPACING, right::SPACING] = image[..., down::SPACING, right::SPACING]
    return out


def blended(answer: Answer) -> Answer:
    """Return the restoration of a network that Noise2Self trained: its answer without a pixel, mixed with the pixel.

    The two errors are independent, so with the variance s² of the answer the mixture with the least error gives the
    pixel the weight s² / (s² + σ²), σ² the variance of the noise there. s² + σ² is what the two differ by, as the mean
    square within a Gaussian window of `WINDOW` pixels. (Batson and Royer, ICML 2019, mix alike, by one weight for all.)
    """

    def restore(measurement: Measurement) -> Tensor:
        image = answer_without_own(answer, measurement)
        seen, mean = measurement.start, expected(image, measurement)
        noise = noise_variance(image, measurement)
        radius = round(3 * WINDOW)
        window = torch.exp(-(torch.arange(-radius, radius + 1) / WINDOW).square() / 2).to(seen)
        square = torch.stack(((mean - seen).square(), torch.ones_like(seen)))[:, :, 0]
        rows = F.conv2d(square.flatten(0, 1)[:, None], window[None, None, :, None], padding=(radius, 0))
        total, weight = torch.unflatten(F.conv2d(rows, window[None, None, None], padding=(0, radius)), 0, (2, -1))
        both = (total / weight).clamp(min=torch.finfo(seen.dtype).tiny)
        own = ((both - noise) / both).clamp(0, 1)
        return unbiased(mean + own * (seen - mean), measurement)

    return restore


def noise_variance(image: Tensor, measurement: Measurement) -> Tensor:
    """Return the variance of the noise on an image, (B, 1, H, W).

    Raises
    ------
    ValueError
        If the noise level is not known.
    """
    if measurement.sigma is None:
        raise ValueError("the noise level is not known")
    sigma = measurement.sigma.to(image)
    if measurement.law == "poisson" and measurement.maximum is not None:
        return sigma.square() * image.clamp(min=0) / measurement.maximum.to(image)
    if measurement.law == "rician":
        return (2 * sigma.square() + image.square() - expected(image, measurement).square()).clamp(min=0)
    return sigma.square().expand_as(image)


def unbiased(mean: Tensor, measurement: Measurement) -> Tensor:
    """Undo `expected`: images, not below 0, whose expected measurements are these."""
    if measurement.sigma is None or measurement.law != "rician":
        return mean.clamp(min=0)
    sigma = measurement.sigma.to(mean)
    units = remove_rician_bias((mean / sigma).cpu().numpy(), 1.0)
    return torch.from_numpy(units).to(mean) * sigma


def split(sampled: Tensor, centre: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Return which of the sampled positions are held out: `HELD` of those outside the centre, by a Gaussian density.

    Parameters
    ----------
    sampled : Tensor
        Bool (B, 1, H, W), in FFT order.
    centre : (int, int)
        Rows and columns about zero frequency that are never held out.
    """
    axes = [torch.fft.fftfreq(size, 1 / size) for size in sampled.shape[-2:]]
    inside = [axis.abs() <= lines / 2 for axis, lines in zip(axes, centre, strict=True)]
    free = sampled.cpu() & ~(inside[0][:, None] & inside[1])
    down, right = (axis / (SPREAD * len(axis)) for axis in axes)
    density = torch.exp(-(down[:, None].square() + right.square()) / 2)
    # The largest of u^(1/w) is a draw by the weights w, without replacement (Efraimidis and Spirakis 2006).
    draws = torch.rand(free.shape, generator=generator).clamp(min=1e-12).log() / density
    held = torch.zeros_like(free)
    for own, key, allowed in zip(held, draws, free, strict=True):
        count = round(HELD * int(allowed.sum()))
        chosen = torch.where(allowed, key, -torch.inf).flatten().topk(count).indices
        own.view(-1)[chosen] = True
    return held.to(sampled.device)


def held_loss(image: Tensor, held: Measurement) -> Tensor:
    """Return the loss of answers (B, C, H, W) where data were held out.

    Of pixels the mean squared error of what is expected to be measured: the magnitude of Rician noise has a bias, which
    the answer then has not. Of samples of k-space ½ ‖u − v‖₂ / ‖u‖₂ + ½ ‖u − v‖₁ / ‖u‖₁, as SSDU has it.
    """
    operator, data = _of(held)
    if held.sigma is not None:
        error = operator.forward(expected(image, held)) - data
        return error.square().sum() / operator.mask.expand_as(error).sum()
    error = torch.view_as_real(operator.forward(image) - data)
    known = torch.view_as_real(data)
    tiny = torch.finfo(known.dtype).tiny
    squares = error.square().sum().clamp(min=tiny).sqrt() / known.square().sum().sqrt().clamp(min=tiny)
    return (squares + error.abs().sum() / known.abs().sum().clamp(min=tiny)) / 2


def held_ratio(image: Tensor, held: Measurement) -> float:
    """Return ‖held-out data‖² / ‖error there‖²: what validation goes by, in place of the clean image."""
    operator, data = _of(held)
    error = operator.forward(expected(image, held)) - data
    return float(data.abs().square().sum() / error.abs().square().sum().clamp(min=1e-30))


def expected(image: Tensor, held: Measurement) -> Tensor:
    """Return the expected measurement of an image: the mean magnitude under Rician noise, else the image itself."""
    if held.sigma is None or held.law != "rician":
        return image
    return rician_mean(image.float(), held.sigma)


def _of(held: Measurement) -> tuple[Masking | FourierSampling | CoilSampling, Tensor]:
    if not isinstance(held.operator, Masking | FourierSampling | CoilSampling) or held.data is None:
        raise ValueError("nothing was held out")
    return held.operator, held.data


def _restricted(measurement: Measurement, mask: Tensor) -> Measurement:
    """Return the measurement of a part of its samples, under a mask within its own; the phase estimate stays."""
    if not isinstance(measurement.operator, FourierSampling | CoilSampling) or measurement.data is None:
        raise ValueError("SSDU needs samples of k-space")
    operator = copy.copy(measurement.operator)
    operator.mask = mask
    data = torch.where(mask, measurement.data, torch.zeros((), dtype=measurement.data.dtype, device=mask.device))
    return replace(measurement, start=operator.adjoint(data), operator=operator, data=data)
