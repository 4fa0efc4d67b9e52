"""What every network of the project is to the training loop and to restoration."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil

import torch
from torch import Tensor, nn

from medwvae.nets.posterior import Posterior
from medwvae.operators import Measurement, magnitude

SCALE_RATE = 10.0
Noise = Callable[[int], Tensor]
"""Number of a draw to its white noise: N(0, 1), shaped like the start image padded to `Restorer.alignment`."""
ROUNDING = 1e-6
"""A spread below this, in network units, is rounding: the voxel is known."""


def channels_beside(channels: int, neighbours: int, mask: bool) -> int:
    """Return the number of channels of `Measurement.beside` for images of `channels` with so many neighbours."""
    return 2 * neighbours * channels + mask


def channels_read(channels: int, conditions: int, neighbours: int, mask: bool) -> int:
    """Return the number of channels of `Measurement.conditioned`, likewise."""
    return channels + channels_beside(channels, neighbours, mask) + conditions


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
    conditions : int
        How many of `Measurement.conditions` the network reads, the first ones.
    neighbours : int
        Slices on either side of a slice that it reads (`Measurement.neighbours`).
    mask : bool
        Whether it reads which pixels are known (`Measurement.known`).
    """

    dims: int = 2
    conditions: int = 0
    neighbours: int = 0
    mask: bool = False

    def inputs(self, measurement: Measurement) -> Tensor:
        """Return the start and all else that the network reads, as channels."""
        return measurement.conditioned(self.conditions, mask=self.mask)

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

    def scale_predictors(self) -> list[nn.Parameter]:
        """Return the parameters that predict logarithms of scales; they train by AdamW whatever their shape.

        A step of Muon is as long for a small gradient as for a large one, and a log-scale has no room for that.
        """
        return []

    @torch.no_grad()
    def restore(self, measurement: Measurement, flips: tuple[tuple[int, ...], ...] = ((),)) -> Tensor:
        """Mean of the answers over mirrored copies (self-ensemble), on exact data again: (B, C, H, W)."""
        total = torch.zeros_like(measurement.start)
        for axes in flips:
            image = self(measurement.flip(axes)).image.float()
            total += image.flip(axes) if axes else image
        return _agreed(total, measurement, len(flips))

    @property
    def uncertain(self) -> bool:
        """Whether the network says how sure it is of an answer (`posterior`)."""
        return False

    def posterior(self, measurement: Measurement) -> Posterior:
        """Return the distribution of the answer, of a network that is `uncertain`."""
        raise NotImplementedError

    @torch.no_grad()
    def restore_with_spread(
        self, measurement: Measurement, flips: tuple[tuple[int, ...], ...], draws: int, noise: Noise
    ) -> tuple[Tensor, Tensor]:
        """Return the answer of `restore`, and the standard deviation of its magnitude, (B, 1, *spatial).

        The posterior is the mixture of those of the mirrored copies: its variance is the mean of theirs, and that of
        their answers. A copy's own variance is known in closed form (`Posterior.variance`) or comes from its share of
        the draws, one of which is in memory at a time. Voxels that are known have none.

        Parameters
        ----------
        draws : int
            Draws in all, at least one a copy.
        noise : callable
            See `Noise`.
        """
        total = torch.zeros_like(measurement.start)
        within = mean = between = torch.zeros_like(magnitude(total))
        share = ceil(draws / len(flips))
        for copy, axes in enumerate(flips):

            def turned(x: Tensor, axes: tuple[int, ...] = axes) -> Tensor:
                return x.flip(axes) if axes else x

            posterior = self.posterior(measurement.flip(axes))
            seen = magnitude(posterior.answer)
            variance = posterior.variance()
            if variance is None:
                drawn = (posterior.draw(turned(noise(copy * share + k))) for k in range(share))
                variance = sum(((magnitude(x) - seen).square() for x in drawn), torch.zeros_like(seen)) / share
            within = within + turned(variance)
            total += turned(posterior.answer)
            step = turned(seen) - mean
            mean = mean + step / (copy + 1)
            between = between + step * (turned(seen) - mean)
        spread = ((within + between) / len(flips)).clamp(min=0).sqrt()
        return _agreed(total, measurement, len(flips)), torch.where(spread < ROUNDING, 0, spread)


def _agreed(total: Tensor, measurement: Measurement, copies: int) -> Tensor:
    """Return the mean of answers from their sum; one alone agrees with the data already."""
    return total if copies == 1 else measurement.averaged(total / copies)
