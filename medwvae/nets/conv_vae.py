"""The conventional rival in restoration: a convolutional VAE, Gaussian latent on a grid (Kingma and Welling 2014)."""

from typing import cast

import torch
from torch import Tensor

from medwvae.nets.blocks import crop_to, pad_to_multiple
from medwvae.nets.conv_bodies import conv_decoder, conv_encoder
from medwvae.nets.restorer import Estimate, Restorer, channels_read
from medwvae.operators import Measurement


class ConvVAE(Restorer):
    """Strided encoder to q(z | y) = N(μ, σ²), decoder to the image; answers are made consistent with known samples.

    Parameters
    ----------
    conditions : int
        How many of `Measurement.conditions` it reads, the first ones.
    neighbours : int
        Slices on either side that it reads.
    mask : bool
        Whether it reads which pixels are known.
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
        neighbours: int = 0,
        mask: bool = False,
        dims: int = 2,
        widths: tuple[int, ...] = (32, 48, 64),
        latent: int = 16,
        blocks: int = 1,
        beta: float = 1e-4,
    ) -> None:
        super().__init__()
        self.dims, self.conditions, self.neighbours, self.mask = dims, conditions, neighbours, mask
        self.beta, self.multiple = beta, 2 ** (len(widths) - 1)
        self.encoder = conv_encoder(
            dims, channels_read(channels, conditions, neighbours, mask), 2 * latent, widths, blocks
        )
        self.decoder = conv_decoder(dims, latent, channels, widths, blocks)

    def alignment(self) -> tuple[int, ...]:
        """See `Restorer.alignment`."""
        return (self.multiple,) * self.dims

    def forward(self, measurement: Measurement, truth: Tensor | None = None) -> Estimate:
        """Encode the start image, sample z in training (its mean otherwise), decode; see `Restorer.forward`."""
        start = measurement.start
        inputs = pad_to_multiple(self.inputs(measurement), self.multiple, self.dims)
        mean, log_variance = self.encoder(inputs).float().chunk(2, dim=1)
        log_variance = log_variance.clamp(-20, 10)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp() if self.training else mean
        image = crop_to(cast(Tensor, self.decoder(z)).float(), start.shape[2:])
        # Trained on all that it says, but where whole pixels are known: where only missing detail counts, the latent
        # collapses to the prior, and the answer is the zero-filled start (docs/model.md).
        if truth is None or measurement.known is not None:
            image = measurement.project(image)
        if truth is None:
            return Estimate(image, image.new_zeros(()))
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        return Estimate(image, self.beta * kl, {"kl": (self.beta * kl).detach()})
