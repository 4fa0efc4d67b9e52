"""From a clean slice to what each task measures: one place for the simulation of every protocol."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from medwvae.operators import (
    Measurement,
    Pattern,
    cartesian_mask,
    from_kspace,
    rician,
    sample_kspace,
    smooth_phase,
    to_kspace,
    truncation_mask,
    with_phase,
)


@dataclass(frozen=True)
class Simulated:
    """A measurement and its truth.

    Attributes
    ----------
    measurement : Measurement
        What the methods see.
    truth : Tensor
        (B, C, H, W); complex (C = 2) and demodulated like the measurement for `recon`, whose magnitude is scored.
    """

    measurement: Measurement
    truth: Tensor


Degradation = Callable[[Tensor, Tensor, torch.Generator, bool], Simulated]
"""(image (B, 1, H, W) in network units, volume maximum (B or 1,), generator, shared) → Simulated.

`shared` draws one mask and phase for the whole batch, as one acquisition of a volume has; training draws one a slice.
"""


@dataclass(frozen=True)
class Clean:
    """No degradation: the start is the clean image, from which generative models learn."""

    def __call__(self, image: Tensor, maximum: Tensor, generator: torch.Generator, shared: bool) -> Simulated:
        """See `Degradation`."""
        return Simulated(Measurement(image), image)


@dataclass(frozen=True)
class Superres:
    """In-plane k-space truncation (protocol `ixi-td`)."""

    factor: int

    def __call__(self, image: Tensor, maximum: Tensor, generator: torch.Generator, shared: bool) -> Simulated:
        """See `Degradation`."""
        mask = truncation_mask((image.shape[-2], image.shape[-1]), self.factor).to(image.device)
        return Simulated(sample_kspace(image, mask), image)


@dataclass(frozen=True)
class Denoise:
    """Rician noise of standard deviation `sigma` × the volume's maximum (protocol `brainweb-rician`)."""

    sigma: float

    def __call__(self, image: Tensor, maximum: Tensor, generator: torch.Generator, shared: bool) -> Simulated:
        """See `Degradation`."""
        sigma = (self.sigma * maximum).reshape(-1, 1, 1, 1)
        return Simulated(Measurement(rician(image, sigma, generator), sigma=sigma), image)


@dataclass(frozen=True)
class Recon:
    """Cartesian undersampling of a complex image with a smooth phase (protocol `fastmri`, one coil, no noise).

    The measurement is demodulated by the phase that its own central columns show; so is the truth.
    """

    acceleration: float
    centre: float
    pattern: Pattern
    phase: float

    def __call__(self, image: Tensor, maximum: Tensor, generator: torch.Generator, shared: bool) -> Simulated:
        """See `Degradation`."""
        height, width = image.shape[-2:]
        phases, masks = [], []
        for _ in range(1 if shared else len(image)):
            phases.append(smooth_phase((height, width), generator, self.phase))
            masks.append(cartesian_mask(width, self.acceleration, self.centre, self.pattern, generator))
        truth = with_phase(image, torch.stack(phases)[:, None].to(image.device))
        mask = torch.cat(masks).to(image.device)
        measurement = sample_kspace(truth, mask, round(width * self.centre))
        return Simulated(measurement, from_kspace(to_kspace(truth), 2, measurement.phasor))
