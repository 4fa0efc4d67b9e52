"""Samples against images: distances between distributions, and the training images nearest to samples."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medwvae.nets.latent import LatentModel


@torch.no_grad()
def drawn(model: LatentModel, count: int, size: tuple[int, ...], generator: torch.Generator, batch: int) -> Tensor:
    """Return samples (count, C, *size) on the CPU."""
    device = model.log_sigma.device
    if device.type != "cpu":  # a CPU generator cannot serve another device
        generator = torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator)))
    shares = [min(batch, count - start) for start in range(0, count, batch)]
    return torch.cat([model.sample(share, size, generator).float().cpu() for share in shares])
