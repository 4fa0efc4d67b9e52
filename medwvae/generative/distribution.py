"""Samples against images: distances between distributions, and the training images nearest to samples."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medwvae.nets.latent import LatentModel


@torch.no_grad()
def drawn(
    model: LatentModel, count: int, size: tuple[int, ...], generator: torch.Generator, batch: int
) -> Tensor | None:
    """Return samples (count, C, *size) on the CPU, or None from a model without a prior."""
    device = model.log_sigma.device
    on_device = generator
    if device.type != "cpu":  # a CPU generator cannot serve another device
        on_device = torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator)))
    try:
        return torch.cat(
            [
                model.sample(min(batch, count - start), size, on_device).float().cpu()
                for start in range(0, count, batch)
            ]
        )
    except NotImplementedError:
        return None
