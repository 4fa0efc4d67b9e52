"""How many bits an image costs: bounds of a model with a density, on images quantised as a lossless codec sees them."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medwvae.nets.latent import LatentModel, bits_per_voxel


@dataclass(frozen=True)
class Quantisation:
    """Whole numbers 0 to `levels` − 1 that stand for 0 to `top` in network units; what lies beyond is cut off.

    Attributes
    ----------
    step : float
        Network units between two numbers.
    """

    levels: int
    step: float

    @property
    def top(self) -> float:
        """Largest value that is told from larger ones, network units."""
        return (self.levels - 1) * self.step

    @classmethod
    def of(cls, bits: int, top: float) -> Self:
        """Return the quantisation of [0, top] to so many bits."""
        return cls(2**bits, top / (2**bits - 1))

    def whole(self, images: Tensor) -> Tensor:
        """Round to whole numbers."""
        return (images / self.step).round().clamp(0, self.levels - 1)

    def integers(self, images: Tensor) -> NDArray[np.unsignedinteger]:
        """Return the whole numbers as the smallest unsigned type that holds them."""
        return self.whole(images).numpy().astype(np.uint8 if self.levels <= 256 else np.uint16)

    def dequantised(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return images anywhere in their bins, uniformly (Theis, van den Oord and Bethge 2016)."""
        return (self.whole(images) + torch.rand(images.shape, generator=generator) - 0.5) * self.step


def defined(model: LatentModel) -> bool:
    """Whether bits per voxel are defined: a density of images, which a Bernoulli likelihood is not."""
    return model.has_density and model.likelihood == "gaussian"


@torch.no_grad()
def bounds(
    model: LatentModel, images: Tensor, generator: torch.Generator, batch: int, labels: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return distortion and rate of every image in nats, (N,) each, of one draw of z; their sum bounds −log p(x)."""
    device = model.log_sigma.device
    distortion, rate = [], []
    for start in range(0, len(images), batch):
        own = None if labels is None else labels[start : start + batch].to(device)
        bound = model.bound(images[start : start + batch].to(device), own, on_device(device, generator))
        distortion.append(bound.distortion.cpu())
        rate.append(bound.rate.cpu())
    return torch.cat(distortion).double(), torch.cat(rate).double()


@torch.no_grad()
def importance_bound(
    model: LatentModel,
    images: Tensor,
    generator: torch.Generator,
    draws: int,
    batch: int,
    labels: Tensor | None = None,
) -> Tensor:
    """Return −log (1/K) Σ p(x, z_k) / q(z_k | x) of every image in nats, (N,) (Burda, Grosse, Salakhutdinov 2016)."""
    device = model.log_sigma.device
    found = []
    for k, image in enumerate(images):
        weights = [
            model.log_weight(
                image[None].to(device).expand(count, *image.shape),
                None if labels is None else labels[k : k + 1].to(device).expand(count),
                on_device(device, generator),
            ).cpu()
            for count in _shares(draws, batch)
        ]
        found.append(np.log(draws) - torch.cat(weights).double().logsumexp(0))
    return torch.stack(found)


def bits(nats: Tensor, images: Tensor, quantisation: Quantisation) -> Tensor:
    """Return bits per voxel of every image from its nats, (N,)."""
    return bits_per_voxel(nats, images[0].numel(), quantisation.step)


def _shares(total: int, most: int) -> list[int]:
    return [min(most, total - start) for start in range(0, total, most)]


def on_device(device: torch.device, generator: torch.Generator) -> torch.Generator:
    """Return a generator of the device, seeded by the given one: a CPU generator cannot serve another device."""
    if device.type == "cpu":
        return generator
    seed = int(torch.randint(2**62, (), generator=generator))
    return torch.Generator(device).manual_seed(seed)
