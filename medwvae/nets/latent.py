"""What every model with a latent is to training, evaluation and use: encode, decode, bound, draws from the prior."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from medwvae.nets.restorer import Estimate, Restorer
from medwvae.operators import Measurement

Latent = tuple[Tensor, ...]
"""Parts of z, each (B, C, *spatial) or (B, D); of a wavelet latent: approximation, then details, coarse to fine."""

Shapes = tuple[tuple[int, ...], ...]
"""Of each part of a latent, without the batch: (C, *spatial)."""

Likelihood = Literal["gaussian", "bernoulli"]


@dataclass(frozen=True)
class Posterior:
    """q(z | x) = N(mean, scale²), independent; every `scale` broadcasts to its `mean`.

    `inside`, where given, are masks (bool, broadcastable) of the values that are latent at all; the others are 0.
    """

    mean: Latent
    scale: Latent
    inside: Latent | None = None

    def sample(self, generator: torch.Generator | None = None) -> Latent:
        """Draw z = mean + scale · ε."""
        return only(
            tuple(
                mean + scale * torch.randn(mean.shape, generator=generator, device=mean.device)
                for mean, scale in zip(self.mean, self.scale, strict=True)
            ),
            self.inside,
        )

    def log_density(self, z: Latent) -> Tensor:
        """Log q(z | x) in nats, (B,)."""
        parts = zip(z, self.mean, self.scale, strict=True)
        terms = only(tuple(gaussian_log_density(value, mean, scale) for value, mean, scale in parts), self.inside)
        return torch.stack([per_image(term) for term in terms]).sum(0)


@dataclass(frozen=True)
class Bound:
    """The negative evidence lower bound of a batch, in nats per image.

    Attributes
    ----------
    image : Tensor
        Mean of p(x | z), shaped like x.
    distortion : Tensor
        −log p(x | z) for the z that was drawn, (B,).
    rate : Tensor
        KL(q(z | x) ‖ p(z)), or its estimate from the same z, (B,).
    """

    image: Tensor
    distortion: Tensor
    rate: Tensor


class LatentModel(Restorer):
    """A variational autoencoder for (B, C, *spatial) images of any size that its `multiple` pads.

    A subclass defines `encode`, `decode`, `log_prior`, `draw` and, where it has a closed form, `divergence`.

    Parameters
    ----------
    channels, dims : int
        Channels C of the image and number of spatial axes.
    classes : int
        Number of classes that a label can name; 0 for a model without labels.
    likelihood : {"gaussian", "bernoulli"}
        p(x | z): Gaussian with one learned standard deviation σ_x (Rybkin, Daniilidis and Levine 2021), or Bernoulli
        with `decode` clipped to (0, 1), for images in that range.
    beta : float
        Weight of the rate in training (Higgins et al. 2017); 1 is the evidence lower bound.
    free_nats : float
        λ of free bits (Kingma et al. 2016): the mean rate of each latent value counts as at least this much.
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        dims: int = 2,
        classes: int = 0,
        likelihood: Likelihood = "gaussian",
        beta: float = 1.0,
        free_nats: float = 0.0,
    ) -> None:
        super().__init__()
        self.channels, self.dims, self.classes = channels, dims, classes
        self.likelihood, self.beta, self.free_nats = likelihood, beta, free_nats
        self.log_sigma = nn.Parameter(torch.tensor(math.log(0.1)), requires_grad=likelihood == "gaussian")

    has_density = True
    """Whether `log_likelihood` and `log_prior` are densities, so that bits per voxel are defined."""

    @property
    def can_draw(self) -> bool:
        """Whether `draw` has a prior to draw from; a model without a density may have one all the same."""
        return self.has_density

    def encode(self, x: Tensor, label: Tensor | None = None) -> Posterior:
        """q(z | x); `label` (B,) int64 names the class of each image."""
        raise NotImplementedError

    def decode(self, z: Latent, shape: tuple[int, ...], label: Tensor | None = None) -> Tensor:
        """Mean of p(x | z), (B, C, *shape), float32."""
        raise NotImplementedError

    def measure(self, images: Iterable[Tensor]) -> None:
        """Learn from batches of training images, (B, C, *spatial), what has to be known before the first step."""

    def log_prior(self, z: Latent, label: Tensor | None = None) -> Tensor:
        """Log p(z) in nats, (B,)."""
        raise NotImplementedError

    def draw(
        self,
        count: int,
        shape: tuple[int, ...],
        generator: torch.Generator,
        label: Tensor | None = None,
        temperature: float = 1.0,
    ) -> Latent:
        """Draw z from the prior for `count` images of spatial `shape`; `temperature` scales its spread."""
        raise NotImplementedError

    def divergence(self, posterior: Posterior, z: Latent, label: Tensor | None = None) -> Latent | None:
        """KL(q ‖ p) of every latent value in nats, parts like z, or None where only the estimate from z exists."""
        return None

    def latent_values(self, shape: tuple[int, ...]) -> int:
        """Return the number of latent values of one image of spatial `shape`."""
        return sum(math.prod(part) for part in latent_shapes(self, shape))

    def log_likelihood(self, x: Tensor, image: Tensor) -> Tensor:
        """Log p(x | z) in nats, (B,), where `image` = decode(z)."""
        if self.likelihood == "bernoulli":
            image = image.clamp(1e-6, 1 - 1e-6)
            return per_image(x * image.log() + (1 - x) * (1 - image).log())
        return per_image(gaussian_log_density(x, image, self.log_sigma.exp()))

    def bound(
        self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None, *, free: bool = False
    ) -> Bound:
        """Return distortion and rate of one draw of z per image; `free` applies free bits (training only)."""
        posterior = self.encode(x, label)
        z = posterior.sample(generator)
        image = self.decode(z, tuple(x.shape[2:]), label)
        terms = self.divergence(posterior, z, label)
        if terms is None:
            rate = posterior.log_density(z) - self.log_prior(z, label)
        else:
            if free and self.free_nats:
                terms = tuple(t.mean(0, keepdim=True).clamp(min=self.free_nats).expand_as(t) for t in terms)
                terms = only(terms, posterior.inside)
            rate = torch.stack([per_image(t) for t in terms]).sum(0)
        return Bound(image, -self.log_likelihood(x, image), rate)

    def log_weight(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Log p(x, z) − log q(z | x) for one draw of z, (B,): what importance-weighted bounds average."""
        posterior = self.encode(x, label)
        z = posterior.sample(generator)
        likelihood = self.log_likelihood(x, self.decode(z, tuple(x.shape[2:]), label))
        return likelihood + self.log_prior(z, label) - posterior.log_density(z)

    def reconstruct(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Decode the mean of q(z | x)."""
        return self.decode(self.encode(x, label).mean, tuple(x.shape[2:]), label)

    def sample(
        self,
        count: int,
        shape: tuple[int, ...],
        generator: torch.Generator,
        label: Tensor | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Draw images: the mean of p(x | z) for z from the prior, (count, C, *shape)."""
        return self.decode(self.draw(count, shape, generator, label, temperature), shape, label)

    def forward(self, measurement: Measurement, truth: Tensor | None = None) -> Estimate:
        """Train on the bound, nats per voxel; answer with the reconstruction otherwise. See `Restorer.forward`."""
        x, label = measurement.start, measurement.label
        if truth is None:
            image = self.reconstruct(x, label)
            return Estimate(image, image.new_zeros(()))
        bound = self.bound(truth, label, free=True)
        voxels = truth[0].numel()
        distortion, rate = bound.distortion.mean() / voxels, bound.rate.mean() / voxels
        terms = {"distortion": distortion.detach(), "rate": rate.detach()}
        return Estimate(bound.image, self.beta * rate, terms, loss=distortion + self.beta * rate)

    def scales(self) -> dict[str, float]:
        """Return the learned σ_x, for the history."""
        return {"x": float(self.log_sigma.detach().exp())} if self.likelihood == "gaussian" else {}

    def log_scales(self) -> list[nn.Parameter]:
        """See `Restorer.log_scales`."""
        return [self.log_sigma] if self.log_sigma.requires_grad else []


def latent_shapes(model: LatentModel, shape: tuple[int, ...]) -> Shapes:
    """Return the shapes of the parts of z of one image of spatial `shape`."""
    device = model.log_sigma.device
    label = torch.zeros(1, dtype=torch.int64, device=device) if model.classes else None
    with torch.no_grad():
        posterior = model.encode(torch.zeros(1, model.channels, *shape, device=device), label)
    return tuple(tuple(mean.shape[1:]) for mean in posterior.mean)


def only(parts: Latent, inside: Latent | None) -> Latent:
    """Set everything but the latent values to 0; without masks everything is one."""
    return parts if inside is None else tuple(torch.where(m, part, 0.0) for part, m in zip(parts, inside, strict=True))


def per_image(values: Tensor) -> Tensor:
    """Sum over everything but the batch, (B,)."""
    return values.flatten(1).sum(1)


def gaussian_log_density(x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Log N(x; mean, scale²) of every value."""
    return -0.5 * ((x - mean) / scale).square() - scale.log() - 0.5 * math.log(2 * math.pi)


def gaussian_divergence(mean: Tensor, scale: Tensor) -> Tensor:
    """KL(N(mean, scale²) ‖ N(0, 1)) of every value (Kingma and Welling 2014, appendix B)."""
    return 0.5 * (mean.square() + scale.square() - 1) - scale.log()


def bits_per_voxel(nats: Tensor, voxels: int, step: float) -> Tensor:
    """Nats of the density of images that were quantised to `step` and dequantised uniformly, as bits per voxel.

    −log₂ P(quantised x) ≤ −log₂ p(x) − log₂ step per voxel (Theis, van den Oord and Bethge 2016).
    """
    return nats / (voxels * math.log(2)) - math.log2(step)
