"""What every network of the project is to the training loop and to restoration."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from medwvae.operators import Measurement

SCALE_RATE = 10.0


@dataclass
class Estimate:
    """A network's answer.

    Attributes
    ----------
    image : Tensor
        x̂, shaped like the start of the measurement.
    penalty : Tensor
        Scalar terms of the objective beyond the image loss (KL, sparsity, likelihood of the noise scale); 0 where none.
    terms : dict
        The same terms by name, detached, for the history.
    loss : Tensor, optional
        The whole objective, of a network that does not train on image loss + penalty (a likelihood).
    """

    image: Tensor
    penalty: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)
    loss: Tensor | None = None


class Restorer(nn.Module):
    """Base: image from measurement. Networks train by `forward` and answer by `restore`.

    Attributes
    ----------
    dims : int
        Number of spatial axes: 2 for slices, 3 for volumes.
    neighbours : int
        Slices on either side of a slice that the network reads (`Measurement.neighbours`).
    """

    dims: int = 2
    neighbours: int = 0

    def alignment(self) -> tuple[int, ...]:
        """Return the voxels per spatial axis by whose multiples the network moves with its input (2^levels)."""
        return (1,) * self.dims

    def forward(self, measurement: Measurement, truth: Tensor | None = None) -> Estimate:
        """Estimate the image; with `truth` (training) the penalties are filled in."""
        raise NotImplementedError

    def scales(self) -> dict[str, float]:
        """Learned noise scale s by subband, for the history; empty where a network has none."""
        return {}

    def log_scales(self) -> list[nn.Parameter]:
        """Return the parameters that are logarithms of scales; they train `SCALE_RATE` times as fast as the others.

        Adam moves every parameter by about the learning rate a step, too little for what has to fall by decades.
        """
        return []

    @torch.no_grad()
    def restore(self, measurement: Measurement, flips: tuple[tuple[int, ...], ...] = ((),)) -> Tensor:
        """Mean of the answers over mirrored copies (self-ensemble), then data consistency: (B, C, H, W)."""
        total = torch.zeros_like(measurement.start)
        for axes in flips:
            image = self(measurement.flip(axes)).image.float()
            total += image.flip(axes) if axes else image
        return measurement.project(total / len(flips))
