"""The U-shaped network in the wavelet domain that every Wavelet-VAE shares."""

from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medwvae.nets.blocks import conv, residuals
from medwvae.nets.noise_scale import axes_of_levels
from medwvae.wavelets import Coefficients, analyse
from medwvae.wavelets import fallback as plain  # features stay in their own, often half, precision


class WaveletTrunk(nn.Module):
    """Features of every level of an image's wavelet transform.

    Level j reads the DWT of its own approximation beside the DWT of the features above it, runs residual blocks, and a
    way back up with the inverse DWT in place of upsampling. Its first convolution works on a quarter (2D) or an eighth
    (3D) of the image's positions. The image's transform is that of `wavelet`, periodic at the border; features are
    split by Haar. `beside` counts the channels of further images (neighbouring slices) whose transform every level
    reads as well; they have no coefficients among the answer.

    Parameters
    ----------
    channels, beside, conditions : int
        Channels of the image, of what stands beside it (neighbours, say), and conditions that every level reads.
    widths : tuple of int
        Channels of the levels, fine to coarse.
    blocks : int
        Residual blocks per level and direction.
    slice_levels : int, optional
        Levels along the first axis; see `axes_of_levels`.
    above : int
        Channels of features at the image's own resolution, which the first level reads.
    """

    SILENT: ClassVar[bool] = False
    """Whether the residual blocks begin as identities."""

    def __init__(
        self,
        channels: int,
        widths: tuple[int, ...],
        blocks: int,
        dims: int = 2,
        conditions: int = 0,
        wavelet: str = "haar",
        slice_levels: int | None = None,
        beside: int = 0,
        above: int = 0,
    ) -> None:
        super().__init__()
        self.channels, self.widths = channels, tuple(widths)
        self.dims, self.levels, self.wavelet = dims, len(widths), wavelet
        self.axes = axes_of_levels(self.levels, dims, slice_levels)
        self.bands = tuple(2 ** len(axes) for axes in self.axes)
        stems, downs, ups, joins = [], [], [], []
        for j, (width, bands) in enumerate(zip(widths, self.bands, strict=True)):
            stems.append(self.stem(j, bands * (channels + beside), above, conditions))
            downs.append(residuals(dims, width, blocks, silent=self.SILENT))
            if j < self.levels - 1:
                joins.append(self.join(j))
                ups.append(residuals(dims, width, blocks, silent=self.SILENT))
            above = width
        self.stems, self.downs = nn.ModuleList(stems), nn.ModuleList(downs)
        self.joins, self.ups = nn.ModuleList(joins), nn.ModuleList(ups)

    def stem(self, j: int, own: int, above: int, conditions: int) -> nn.Module:
        """Return what `read` needs at level j, of so many channels of coefficients, features above and conditions."""
        return conv(self.dims, own + self.bands[j] * above + conditions, self.widths[j])

    def read(
        self, j: int, own: Tensor, above: Tensor | None, condition: Tensor | None, before: list[Tensor] | None = None
    ) -> Tensor:
        """Map coefficients of level j, features of the finer level and conditions to features (B, width, *coarse).

        `before` (the features of a round before) is for networks that have rounds.
        """
        inputs = [own]
        if condition is not None:
            inputs.append(condition.expand(len(own), -1, *own.shape[2:]))
        if above is not None:
            low, high = _split(above, self.axes[j])
            inputs += [low.float(), high.flatten(1, 2).float()]
        return cast(Tensor, self.stems[j](torch.cat(inputs, dim=1)))

    def join(self, j: int) -> nn.Module:
        """Return what `lift` needs between level j and the coarser one."""
        return conv(self.dims, self.widths[j + 1], self.bands[j + 1] * self.widths[j], kernel=1)

    def lift(self, j: int, coarse: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Map features of level j + 1 to features (B, width, *shape) of level j."""
        bands = torch.unflatten(self.joins[j](coarse), 1, (self.bands[j + 1], -1))
        return merged(bands, shape, self.axes[j + 1])

    def features(
        self,
        approximations: list[Tensor],
        details: list[Tensor],
        condition: Tensor | None = None,
        above: Tensor | None = None,
        before: list[Tensor] | None = None,
    ) -> list[Tensor]:
        """Return the features of every level, fine to coarse, from what `transformed` returned.

        `condition` (B or 1, K, 1, ...) is known of the whole image, such as its noise level; every level reads it.
        `before` is handed to `read`.
        """
        found: list[Tensor] = []
        for j in range(self.levels):
            own = torch.cat((approximations[j], details[j].flatten(1, 2)), dim=1)
            above = self.downs[j](F.relu(self.read(j, own, above, condition, before)))
            found.append(above)
        for j in range(self.levels - 2, -1, -1):
            found[j] = self.ups[j](found[j] + self.lift(j, found[j + 1], tuple(found[j].shape[2:])))
        return found

    def transformed(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the approximation and the details of every level, fine to coarse; exact under autocast too."""
        with torch.autocast(x.device.type, enabled=False):
            approximations: list[Tensor] = []
            details: list[Tensor] = []
            for axes in self.axes:
                finer = approximations[-1] if approximations else x.float()
                low, high = analyse(finer, self.dims, self.wavelet, axes=axes)
                approximations.append(low)
                details.append(high)
        return approximations, details

    def coefficients(self, approximations: list[Tensor], details: list[Tensor], shape: tuple[int, ...]) -> Coefficients:
        """Return the coefficients of the image's own channels; `shape` is the image's."""
        shapes = (shape, *(tuple(image.shape[2:]) for image in approximations[:-1]))
        own = self.channels
        return Coefficients(
            approximations[-1][:, :own],
            tuple(d[:, :, :own] for d in details[::-1]),
            shapes[::-1],
            self.axes[::-1],
            self.wavelet,
        )


def _split(x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Split features (B, W, *spatial) by Haar along the last axes, in their own precision."""
    left = x.ndim - 2 - len(axes)  # slices that are left alone are channels to the transform
    if not left:
        return plain.split(x, "haar", "periodization", adjoint=False)
    low, high = plain.split(x.flatten(1, 1 + left), "haar", "periodization", adjoint=False)
    untouched = x.shape[1 : 2 + left]
    return torch.unflatten(low, 1, untouched), torch.unflatten(high, 2, untouched)


def merged(bands: Tensor, shape: tuple[int, ...], axes: tuple[int, ...]) -> Tensor:
    """Undo the split of features: bands (B, bands, W, *coarse), the approximation first, to (B, W, *shape)."""
    left = len(shape) - len(axes)
    if not left:
        return plain.merge(bands[:, 0], bands[:, 1:], shape, "haar", "periodization", adjoint=False)
    flat = bands.flatten(2, 2 + left)
    merged = plain.merge(flat[:, 0], flat[:, 1:], shape[left:], "haar", "periodization", adjoint=False)
    return torch.unflatten(merged, 1, bands.shape[2 : 3 + left])
