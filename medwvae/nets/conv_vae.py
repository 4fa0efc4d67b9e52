"""The conventional rival: a convolutional VAE with a spatial Gaussian latent (Kingma and Welling 2014)."""

import itertools
from typing import cast

import torch
from torch import Tensor, nn

from medwvae.nets.blocks import conv, crop_to, pad_to_multiple, residuals
from medwvae.nets.restorer import Estimate, Restorer
from medwvae.operators import Measurement


class ConvVAE(Restorer):
    """Strided encoder to q(z | y) = N(μ, σ²), decoder to the image, data consistency where samples are known.

    Parameters
    ----------
    widths : tuple of int
        Channels of each level; every level after the first halves the resolution.
    latent : int
        Channels of z, at 1 / 2^(levels − 1) of the resolution.
    beta : float
        Weight of the KL term (mean over latent values).
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        conditions: int = 0,
        dims: int = 2,
        widths: tuple[int, ...] = (32, 48, 64),
        latent: int = 16,
        blocks: int = 1,
        beta: float = 1e-4,
    ) -> None:
        super().__init__()
        self.dims, self.beta, self.multiple = dims, beta, 2 ** (len(widths) - 1)
        down: list[nn.Module] = [conv(dims, channels + conditions, widths[0]), residuals(dims, widths[0], blocks)]
        up: list[nn.Module] = []
        for fine, coarse in itertools.pairwise(widths):
            down += [conv(dims, fine, coarse, stride=2), residuals(dims, coarse, blocks)]
            up = [
                residuals(dims, coarse, blocks),
                nn.Upsample(scale_factor=2),
                conv(dims, coarse, fine),
                nn.ReLU(),
                *up,
            ]
        self.encoder = nn.Sequential(*down, conv(dims, widths[-1], 2 * latent, kernel=1))
        self.decoder = nn.Sequential(
            conv(dims, latent, widths[-1]), *up, residuals(dims, widths[0], blocks), conv(dims, widths[0], channels)
        )

    def forward(self, measurement: Measurement, truth: Tensor | None = None) -> Estimate:
        """Encode the start image, sample z in training (its mean otherwise), decode; see `Restorer.forward`."""
        start = measurement.start
        mean, log_variance = (
            self.encoder(pad_to_multiple(measurement.conditioned(), self.multiple, self.dims)).float().chunk(2, dim=1)
        )
        log_variance = log_variance.clamp(-20, 10)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp() if self.training else mean
        image = crop_to(cast(Tensor, self.decoder(z)).float(), start.shape[2:])
        image = measurement.project(image)
        if truth is None:
            return Estimate(image, image.new_zeros(()))
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        return Estimate(image, self.beta * kl, {"kl": (self.beta * kl).detach()})
