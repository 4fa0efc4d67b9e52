"""The prior of a wavelet latent, coarse to fine: p(a_J) Π p(d_j | a_j), a Laplace density of every detail."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medwvae.nets.blocks import conv, residuals

_FLOOR = 1e-6  # of b, in units of the coefficients: air can be exactly zero


class DetailPrior(nn.Module):
    """Location μ and scale b of the Laplace density of a level's details, read off the approximation of that level.

    One network serves all levels: an embedding says which, and the approximation is scaled to the image's range, so
    that every level looks alike (Buccigrossi and Simoncelli 1999 for the dependence between levels).

    Parameters
    ----------
    channels, levels, dims : int
        Channels of the image, levels J of the transform, spatial axes.
    width, blocks : int
        Channels and residual blocks of the network.
    classes : int
        Number of classes of the label; 0 for none.
    """

    def __init__(
        self, channels: int, levels: int, dims: int, width: int = 32, blocks: int = 2, classes: int = 0
    ) -> None:
        super().__init__()
        self.dims, self.bands = dims, (2**dims - 1) * channels
        self.stem = conv(dims, channels, width)
        self.embedding = nn.Embedding(levels, width)
        self.label = nn.Embedding(classes, width) if classes else None
        self.body = residuals(dims, width, blocks)
        self.head = conv(dims, width, 2 * self.bands, zero=True)
        self.log_scale = nn.Parameter(torch.full((levels, self.bands), math.log(0.1)))

    def forward(self, approximation: Tensor, level: int, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return μ and b of the details (B, bands · C, *spatial of the level), in units of the coefficients.

        `approximation` is a_level, (B, C, *spatial); level 1 is the finest.
        """
        unit = 2 ** (level * self.dims / 2)  # of an orthonormal transform's coefficients
        index = torch.tensor(level - 1, device=approximation.device)
        context = self.embedding(index)
        if self.label is not None and label is not None:
            context = context + self.label(label)
        context = context.reshape(-1, context.shape[-1], *([1] * self.dims))
        features = self.body(F.relu(self.stem(approximation / unit) + context))
        mean, log_scale = self.head(F.relu(features)).float().chunk(2, dim=1)
        base = self.log_scale[level - 1].reshape(1, -1, *([1] * self.dims))
        return mean * unit, unit * (log_scale + base).clamp(-20, 10).exp() + _FLOOR


def laplace_log_density(x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Log Laplace(x; mean, scale) of every value."""
    return -(x - mean).abs() / scale - (2 * scale).log()


def laplace_divergence(mean: Tensor, deviation: Tensor, location: Tensor, scale: Tensor) -> Tensor:
    """KL(N(mean, deviation²) ‖ Laplace(location, scale)) of every value, in nats.

    E|N(δ, s²)| = s √(2/π) exp(−δ²/2s²) + δ erf(δ/(s√2)), δ = mean − location, the mean of the folded normal (Leone,
    Nelson and Nottingham 1961); plus log 2b minus the entropy ½ log(2πe s²).
    """
    delta = mean - location
    ratio = delta / (deviation * math.sqrt(2))
    expected = deviation * math.sqrt(2 / math.pi) * (-ratio.square()).exp() + delta * torch.erf(ratio)
    return expected / scale + (2 * scale).log() - 0.5 * math.log(2 * math.pi * math.e) - deviation.log()


def draw_laplace(mean: Tensor, scale: Tensor, generator: torch.Generator, temperature: float) -> Tensor:
    """Draw from Laplace(mean, temperature · scale) by inversion."""
    uniform = torch.rand(mean.shape, generator=generator, device=mean.device) - 0.5
    return mean - temperature * scale * uniform.sign() * torch.log1p(-2 * uniform.abs()).clamp(min=-30)
