"""The smooth phase that coils and field inhomogeneity leave on MR images."""

import torch
from torch import Tensor


def smooth_phase(shape: tuple[int, int], generator: torch.Generator, waves: float = 1.0) -> Tensor:
    """Draw a smooth random phase (H, W) in radians, as coils and field inhomogeneity leave it on MR images.

    A second-order polynomial in the normalised coordinates with coefficients drawn in ±π·`waves`.
    """
    coefficients = (torch.rand(6, generator=generator) * 2 - 1) * torch.pi * waves
    y = torch.linspace(-1, 1, shape[0])[:, None]
    x = torch.linspace(-1, 1, shape[1])[None, :]
    terms = (torch.ones_like(x * y), x + 0 * y, y + 0 * x, x * y, x**2 + 0 * y, y**2 + 0 * x)
    return torch.stack([c * term for c, term in zip(coefficients, terms, strict=True)]).sum(0)


def with_phase(image: Tensor, phase: Tensor) -> Tensor:
    """Magnitude image (B, 1, H, W) and phase (H, W) or (B, 1, H, W) to the 2-channel complex image."""
    return torch.cat((image * torch.cos(phase), image * torch.sin(phase)), dim=1)
