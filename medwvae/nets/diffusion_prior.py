"""A model with a latent whose draws come from a diffusion model of that latent, fitted after it."""

from typing import Any

import torch
from torch import Tensor

from medwvae.nets.latent import Bound, Latent, LatentModel, Posterior, latent_shapes
from medwvae.nets.latent_diffusion import LatentDiffusion


class DiffusionPrior(LatentModel):
    """A trained model as it is, but for `draw`.

    Bounds, and with them nats and bits, stay those of the model's own prior: a diffusion model gives samples here, no
    density. `diffusion` is what the training loop trains.

    Parameters
    ----------
    model : LatentModel
        Trained.
    **options
        See `LatentDiffusion`. With `parts` = 1 the model draws the rest of its latent itself, given the coarsest band.
    """

    def __init__(self, model: LatentModel, **options: Any) -> None:
        super().__init__(
            channels=model.channels,
            dims=model.dims,
            classes=model.classes,
            likelihood=model.likelihood,
            beta=model.beta,
        )
        self.has_density, self.model = model.has_density, model
        self.log_sigma.requires_grad_(False)
        learned = [p for p in model.parameters() if p.requires_grad]
        self.diffusion = LatentDiffusion(model, classes=model.classes, **options)
        for p in learned:  # counted as learned, though the diffusion is trained without them
            p.requires_grad_(True)

    @property
    def can_draw(self) -> bool:
        """True: that is what it is for."""
        return True

    def encode(self, x: Tensor, label: Tensor | None = None) -> Posterior:
        """See `LatentModel`."""
        return self.model.encode(x, label)

    def decode(self, z: Latent, shape: tuple[int, ...], label: Tensor | None = None) -> Tensor:
        """See `LatentModel`."""
        return self.model.decode(z, shape, label)

    def log_prior(self, z: Latent, label: Tensor | None = None) -> Tensor:
        """Log p(z) of the model's own prior."""
        return self.model.log_prior(z, label)

    def divergence(self, posterior: Posterior, z: Latent, label: Tensor | None = None) -> Latent | None:
        """See `LatentModel`; from the model's own prior."""
        return self.model.divergence(posterior, z, label)

    def log_likelihood(self, x: Tensor, image: Tensor) -> Tensor:
        """See `LatentModel`."""
        return self.model.log_likelihood(x, image)

    def bound(
        self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None, *, free: bool = False
    ) -> Bound:
        """See `LatentModel`; of the model's own prior."""
        return self.model.bound(x, label, generator, free=free)

    def latent_values(self, shape: tuple[int, ...]) -> int:
        """See `LatentModel`."""
        return self.model.latent_values(shape)

    def draw(
        self,
        count: int,
        shape: tuple[int, ...],
        generator: torch.Generator,
        label: Tensor | None = None,
        temperature: float = 1.0,
    ) -> Latent:
        """See `LatentModel`; the parts that the diffusion does not model follow from the model, given the coarsest."""
        shapes = latent_shapes(self.model, shape)
        z = self.diffusion.draw(count, shapes, generator, label, temperature)
        if len(z) == len(shapes):
            return z
        drawn: Latent = self.model.draw(count, shape, generator, label, temperature, coarse=z[0])  # type: ignore[call-arg]
        return drawn

    def scales(self) -> dict[str, float]:
        """See `LatentModel`."""
        return self.model.scales()
