"""A tiny model with a latent, exact enough to compute its scores by hand."""

import math

import torch
from torch import nn

from medwvae.nets.latent import LatentModel, Posterior, gaussian_log_density, per_image


class Halves(LatentModel):
    """z: means over 2 × 2 pixels, times a learned gain; x̂: each value four times. p(z) = N(0, 1)."""

    def __init__(self, deviation=0.1, **options):
        super().__init__(**options)
        self.gain = nn.Parameter(torch.ones(()))
        self.offset = nn.Parameter(torch.zeros(3))  # of the decoder, and of no use
        self.deviation = deviation

    def encode(self, x, label=None):
        mean = self.gain * nn.functional.avg_pool2d(x, 2)
        return Posterior((mean,), (torch.full((1,), self.deviation),))

    def decode(self, z, shape, label=None):
        image = z[0].repeat_interleave(2, -1).repeat_interleave(2, -2)
        return image[..., : shape[0], : shape[1]] + 0 * self.offset.sum()

    def log_prior(self, z, label=None):
        return per_image(gaussian_log_density(z[0], torch.zeros(()), torch.ones(())))

    def draw(self, count, shape, generator, label=None, temperature=1.0):
        return (temperature * torch.randn((count, 1, shape[0] // 2, shape[1] // 2), generator=generator),)


def exact_nats(model, x):
    """Return −log p(x) of `Halves` for images (N, 1, 2, 2): x has the covariance 11ᵀ + σ² I."""
    sigma = float(model.log_sigma.detach().exp())
    covariance = torch.ones(4, 4, dtype=torch.float64) + sigma**2 * torch.eye(4, dtype=torch.float64)
    flat = x.flatten(1).double()
    quadratic = (flat @ torch.linalg.inv(covariance) * flat).sum(1)
    return 0.5 * (quadratic + torch.logdet(covariance) + 4 * math.log(2 * math.pi))
