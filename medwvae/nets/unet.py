"""The strong rival: MONAI's BasicUNet with a residual answer and the same data consistency."""

from monai.networks.nets.basic_unet import BasicUNet
from torch import Tensor

from medwvae.names import UNetNorm
from medwvae.nets.blocks import crop_to, pad_to_multiple
from medwvae.nets.restorer import Estimate, Restorer, channels_read
from medwvae.operators import Measurement

MULTIPLE = 16
"""BasicUNet halves four times."""
NORMS = {"instance": ("instance", {"affine": True}), "none": None}
"""What BasicUNet calls them."""


class UNet(Restorer):
    """start + BasicUNet(start), then data consistency (Ronneberger et al. 2015; MONAI's implementation).

    Parameters
    ----------
    conditions : int
        How many of `Measurement.conditions` it reads, the first ones.
    neighbours : int
        Slices on either side that it reads.
    mask : bool
        Whether it reads which pixels are known.
    features : tuple of six int
        Channels of the five levels and of the last layer, as BasicUNet takes them.
    norm : {"instance", "none"}
        BasicUNet's instance normalisation, or none. It removes an image's own contrast, which restoration needs.
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        conditions: int = 0,
        neighbours: int = 0,
        mask: bool = False,
        dims: int = 2,
        features: tuple[int, int, int, int, int, int] = (16, 32, 64, 96, 128, 16),
        norm: UNetNorm = "none",
    ) -> None:
        super().__init__()
        self.dims, self.conditions, self.neighbours, self.mask = dims, conditions, neighbours, mask
        self.body = BasicUNet(
            spatial_dims=dims,
            in_channels=channels_read(channels, conditions, neighbours, mask),
            out_channels=channels,
            features=features,
            norm=NORMS[norm],
        )

    def alignment(self) -> tuple[int, ...]:
        """See `Restorer.alignment`."""
        return (MULTIPLE,) * self.dims

    def forward(self, measurement: Measurement, truth: Tensor | None = None) -> Estimate:
        """See `Restorer.forward`; a U-Net has no penalty."""
        start = measurement.start
        inputs = pad_to_multiple(self.inputs(measurement), MULTIPLE, self.dims)
        correction = crop_to(self.body(inputs), start.shape[2:])
        image = measurement.project(start + correction.float())
        return Estimate(image, image.new_zeros(()))
