"""Zonal selection: the same values of every image of one frame, those with the most energy on average."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from medwvae.errors import ConfigError, InputError


class Zone(nn.Module):
    """The `count` places of a grid with the largest mean energy over training images.

    Zonal coding (Jain 1989, section 11.5): which they are is known before an image is seen and costs no bits, unlike
    the largest values of each image. Of pictures of a head in a frame, places in the air around it are left out.

    Parameters
    ----------
    shape : tuple of int
        Spatial shape of the images; there is no zone of others.
    grid : tuple of int
        (C, *spatial) of the places.
    count : int
        Places kept.

    Raises
    ------
    ConfigError
        If there are not so many places.
    """

    mask: Tensor
    measured: Tensor

    def __init__(self, shape: tuple[int, ...], grid: tuple[int, ...], count: int) -> None:
        super().__init__()
        if not 1 <= count <= math.prod(grid):
            raise ConfigError(f"a zone of {count} places, but there are {math.prod(grid)}")
        self.shape, self.count = shape, count
        self.register_buffer("mask", torch.ones(1, *grid, dtype=torch.bool))
        self.register_buffer("measured", torch.tensor(False))

    @torch.no_grad()
    def measure(self, energies: Iterable[Tensor]) -> None:
        """Choose the places by batches of energies, (B, *grid), of training images.

        Raises
        ------
        InputError
            If there are none.
        """
        total = torch.zeros(self.mask.shape, dtype=torch.float64)
        for energy in energies:
            total += energy.cpu().double().sum(0, keepdim=True)
            self.measured.fill_(True)
        if not self.measured:
            raise InputError("no image to choose a zone by")
        chosen = torch.zeros(total.numel(), dtype=torch.bool)
        chosen[total.flatten().topk(self.count).indices] = True
        self.mask.copy_(chosen.reshape(total.shape))

    def forward(self, shape: tuple[int, ...]) -> Tensor:
        """Return the mask, bool, (1, *grid), for images of spatial `shape`; everything before `measure`.

        Raises
        ------
        InputError
            If the zone is of another shape.
        """
        if shape != self.shape:
            raise InputError(f"this model's latent is a zone of images of {self.shape}; this image has {shape}")
        return self.mask
