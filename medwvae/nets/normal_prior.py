"""The conventional VAE: one Gaussian latent under the prior N(0, I), rate in closed form (Kingma and Welling 2014)."""

import math
from typing import TypedDict

import torch
from torch import Tensor

from medwvae.errors import ConfigError
from medwvae.nets.latent import (
    Latent,
    LatentModel,
    Likelihood,
    Posterior,
    gaussian_divergence,
    gaussian_log_density,
    only,
    per_image,
)


class Options(TypedDict, total=False):
    """What every `LatentModel` takes, with its defaults there."""

    channels: int
    dims: int
    classes: int
    likelihood: Likelihood
    beta: float
    free_nats: float


class NormalPrior(LatentModel):
    """A `LatentModel` with p(z) = N(0, I), the same for every class: the decoder reads the label.

    A subclass defines `latent_shape`, `encode` and `decode`.
    """

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of one image's z, without the batch, for an image of spatial `shape`."""
        raise NotImplementedError

    def latent_values(self, shape: tuple[int, ...]) -> int:
        """Return the number of latent values of one image of spatial `shape`."""
        return math.prod(self.latent_shape(shape))

    def log_prior(self, z: Latent, label: Tensor | None = None) -> Tensor:
        """Log N(z; 0, I) in nats, (B,)."""
        (value,) = z
        zero = value.new_zeros(())
        return per_image(*only((gaussian_log_density(value, zero, zero + 1),), self.inside()))

    def inside(self) -> Latent | None:
        """Return masks of what is latent, see `Posterior`; None for all of z."""
        return None

    def divergence(self, posterior: Posterior, z: Latent, label: Tensor | None = None) -> Latent:
        """KL(q ‖ p) of every latent value in nats."""
        (mean,), (scale,) = posterior.mean, posterior.scale
        return only((gaussian_divergence(mean, scale),), posterior.inside)

    def draw(
        self,
        count: int,
        shape: tuple[int, ...],
        generator: torch.Generator,
        label: Tensor | None = None,
        temperature: float = 1.0,
    ) -> Latent:
        """Draw z from N(0, temperature²)."""
        noise = torch.randn(count, *self.latent_shape(shape), generator=generator, device=generator.device)
        return only((temperature * noise.to(self.log_sigma.device),), self.inside())

    def answer(self, raw: Tensor) -> Tensor:
        """From the decoder's last layer to the mean of p(x | z): float32, through a sigmoid for Bernoulli."""
        return raw.float().sigmoid() if self.likelihood == "bernoulli" else raw.float()


def posterior_of(parameters: Tensor) -> Posterior:
    """Mean and log variance, stacked along the channels, as a posterior; float32 also under autocast."""
    mean, log_variance = parameters.float().chunk(2, dim=1)
    return Posterior((mean,), ((0.5 * log_variance.clamp(-20, 10)).exp(),))


def channels_for_rate(rate: int, downsamplings: int, dims: int = 2, channels: int = 1) -> int:
    """Return the latent channels of `downsamplings` halvings that hold exactly pixels / `rate` values.

    Raises
    ------
    ConfigError
        If no whole number of channels does.
    """
    positions: int = channels * 2 ** (dims * downsamplings)
    if rate < 1 or positions % rate:
        raise ConfigError(
            f"{downsamplings} downsamplings in {dims}D cannot hold 1/{rate} of the pixels: "
            f"{positions} / {rate} is no whole number of latent channels; change downsamplings"
        )
    return positions // rate
