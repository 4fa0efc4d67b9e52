"""The denoising rival: DnCNN, plain convolutions at full resolution that predict the error of their input."""

from torch import Tensor, nn

from medwvae.nets.blocks import conv
from medwvae.nets.restorer import Estimate, Restorer, channels_read
from medwvae.operators import Measurement

_NORMS: dict[int, type[nn.BatchNorm2d | nn.BatchNorm3d]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class DnCNN(Restorer):
    """start − R(start), then data consistency (Zhang, Zuo, Chen, Meng and Zhang, IEEE TIP 26, 2017).

    R is a convolution and ReLU, `depth` − 2 times convolution, batch norm and ReLU, and a last convolution, all 3×3 and
    at full resolution. Beside the image it reads the conditions and the neighbours as further channels, which the
    published network does not.

    Parameters
    ----------
    conditions : int
        How many of `Measurement.conditions` it reads, the first ones.
    neighbours : int
        Slices on either side that it reads.
    mask : bool
        Whether it reads which pixels are known.
    depth : int
        Convolutions: 17 as published for a known noise level, 20 for unknown ones.
    width : int
        Channels between them; 64 as published.
    normalise : bool
        Batch norm, as published; its running means answer.
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        conditions: int = 0,
        neighbours: int = 0,
        mask: bool = False,
        dims: int = 2,
        depth: int = 17,
        width: int = 64,
        normalise: bool = True,
    ) -> None:
        super().__init__()
        self.dims, self.conditions, self.neighbours, self.mask = dims, conditions, neighbours, mask
        layers: list[nn.Module] = [conv(dims, channels_read(channels, conditions, neighbours, mask), width), nn.ReLU()]
        for _ in range(depth - 2):
            layers += [conv(dims, width, width), *([_NORMS[dims](width)] if normalise else []), nn.ReLU()]
        self.body = nn.Sequential(*layers, conv(dims, width, channels))

    def forward(self, measurement: Measurement, truth: Tensor | None = None) -> Estimate:
        """See `Restorer.forward`; there is no penalty."""
        error = self.body(self.inputs(measurement)).float()
        image = measurement.project(measurement.start - error)
        return Estimate(image, image.new_zeros(()))
