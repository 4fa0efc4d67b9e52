"""The unrolled rival: rounds of a small U-Net and of data consistency, as MoDL and VarNet have them."""

import math

import torch
from monai.networks.nets.basic_unet import BasicUNet
from torch import Tensor, nn

from medwvae.names import UNetNorm
from medwvae.nets.blocks import crop_to, pad_to_multiple
from medwvae.nets.restorer import Estimate, Restorer, channels_read
from medwvae.nets.unet import MULTIPLE, NORMS
from medwvae.operators import Measurement

INITIAL_WEIGHT = 0.05
"""Of the network's answer in data consistency, before training; that of MoDL's published code."""


class UnrolledUNet(Restorer):
    """K rounds of z = x + U_k(x), x = argmin ‖A x − y‖² + λ_k ‖x − z‖²; the last round ends on the data instead.

    MoDL (Aggarwal, Mani and Jacob, IEEE TMI 38, 2019) with the U-Nets of end-to-end VarNet (Sriram et al., MICCAI 2020)
    as its networks, MONAI's `BasicUNet` here. λ_k is learned. Without data (denoising) more than one round is just a
    deeper network; one round is `medwvae.nets.unet.UNet`.

    Parameters
    ----------
    conditions : int
        How many of `Measurement.conditions` every round reads, the first ones.
    neighbours : int
        Slices on either side that every round reads.
    mask : bool
        Whether every round reads which pixels are known.
    features : tuple of six int
        Channels of the five levels and of the last layer of a U-Net, as BasicUNet takes them.
    rounds : int
        K.
    shared : bool
        Whether all rounds share one U-Net, as MoDL's do.
    norm : {"instance", "none"}
        As in `medwvae.nets.unet.UNet`.
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        conditions: int = 0,
        neighbours: int = 0,
        mask: bool = False,
        dims: int = 2,
        features: tuple[int, int, int, int, int, int] = (12, 24, 36, 48, 64, 12),
        rounds: int = 5,
        shared: bool = False,
        norm: UNetNorm = "none",
    ) -> None:
        super().__init__()
        self.dims, self.conditions, self.neighbours, self.mask = dims, conditions, neighbours, mask
        self.rounds = rounds
        inputs = channels_read(channels, conditions, neighbours, mask)
        self.bodies = nn.ModuleList(
            BasicUNet(spatial_dims=dims, in_channels=inputs, out_channels=channels, features=features, norm=NORMS[norm])
            for _ in range(1 if shared else rounds)
        )
        # None for the last round, whose answer agrees with the data: a parameter that nothing reads stops DDP.
        self.log_weights = nn.Parameter(torch.full((rounds - 1,), math.log(INITIAL_WEIGHT))) if rounds > 1 else None

    def alignment(self) -> tuple[int, ...]:
        """See `Restorer.alignment`."""
        return (MULTIPLE,) * self.dims

    def log_scales(self) -> list[nn.Parameter]:
        """See `Restorer.log_scales`: the weights λ."""
        return [] if self.log_weights is None else [self.log_weights]

    def forward(self, measurement: Measurement, truth: Tensor | None = None) -> Estimate:
        """See `Restorer.forward`; there is no penalty."""
        x = measurement.start
        beside = self.inputs(measurement)[:, x.shape[1] :]
        for k in range(self.rounds):
            inputs = pad_to_multiple(torch.cat((x, beside), dim=1), MULTIPLE, self.dims)
            z = x + crop_to(self.bodies[k % len(self.bodies)](inputs), x.shape[2:]).float()
            if self.log_weights is None or k == self.rounds - 1:
                x = measurement.project(z)
            else:
                x = measurement.proximal(z, self.log_weights[k].exp())
        return Estimate(x, x.new_zeros(()))
