"""A linear-Gaussian model, probabilistic PCA (Tipping and Bishop 1999): everything about it is known in closed form."""

import itertools
import math
from functools import cache

import torch
from scipy.fft import idct

from medwvae.nets.latent import LatentModel, Posterior, gaussian_log_density, per_image

MODES = 3


class Waves(LatentModel):
    """x = 0.5 + W z + σ ε, z ~ N(0, 1): W's columns are the `MODES` slowest cosines per axis, weaker when faster."""

    def __init__(self, sigma=0.05, **options):
        super().__init__(**options)
        torch.nn.init.constant_(self.log_sigma, math.log(sigma))

    @staticmethod
    @cache
    def weights(shape):
        """W, (pixels, modes^dims), with columns at right angles to one another."""
        axes = [torch.from_numpy(idct(torch.eye(n).numpy(), axis=0, norm="ortho")[:, :MODES]) for n in shape]
        columns = []
        for orders in itertools.product(range(MODES), repeat=len(shape)):
            column = torch.ones(())
            for axis, order in zip(axes, orders, strict=True):
                column = torch.tensordot(column, axis[:, order].float(), dims=0)
            columns.append(column.flatten() * 4 / (1 + sum(orders)))
        return torch.stack(columns, dim=1)

    def encode(self, x, label=None):
        W = self.weights(tuple(x.shape[2:]))
        noise = self.log_sigma.detach().exp() ** 2
        precision = (W**2).sum(0) + noise
        return Posterior((((x.flatten(1) - 0.5) @ W) / precision,), ((noise / precision).sqrt()[None],))

    def decode(self, z, shape, label=None):
        shift = 0 if label is None else label.reshape(-1, 1).float()
        return (0.5 + shift + z[0] @ self.weights(shape).T).reshape(-1, 1, *shape)

    def log_prior(self, z, label=None):
        return per_image(gaussian_log_density(z[0], torch.zeros(()), torch.ones(())))

    def draw(self, count, shape, generator, label=None, temperature=1.0):
        return (temperature * torch.randn((count, MODES ** len(shape)), generator=generator),)

    def conditional(self, x, known):
        """Mean of z given the known pixels of one image, and mean and standard deviation of every pixel."""
        W = self.weights(tuple(x.shape[2:])).double()
        noise = float(self.log_sigma.detach().exp()) ** 2
        seen = known.flatten()
        K = W[seen]
        covariance = torch.linalg.inv(torch.eye(W.shape[1], dtype=torch.float64) + K.T @ K / noise)
        z = covariance @ K.T @ (x.flatten()[seen].double() - 0.5) / noise
        spread = ((W @ covariance * W).sum(1) + noise).sqrt()
        return z, (0.5 + W @ z).reshape(x.shape), spread.reshape(x.shape)


def images(model, count, shape, seed=0):
    """Images that the model says there are, its noise included."""
    generator = torch.Generator().manual_seed(seed)
    clean = model.sample(count, shape, generator)
    return (clean + model.log_sigma.exp() * torch.randn(clean.shape, generator=generator)).detach()
