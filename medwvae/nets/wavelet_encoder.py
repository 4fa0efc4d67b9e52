"""The network in the wavelet domain that every Wavelet-VAE shares, and the noise scales of its coefficients."""

import math
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medwvae.errors import ConfigError
from medwvae.nets.blocks import conv, residuals
from medwvae.wavelets import Coefficients, analyse, subband_names
from medwvae.wavelets import fallback as plain  # features stay in their own, often half, precision

NoiseKind = Literal["fixed", "global", "level", "subband"]
LOCAL = 5.0
"""Bound of a coefficient's own |log-scale|: a factor of 150 either way, beyond which no residual asks."""
SMALL = 3e-3
"""Coefficients below this, in network units, are alike to the heads of the scales."""


class NoiseScale(nn.Module):
    """s in c̃ = ĉ + s·ε, stored as log s: one for all, one per level, or one per subband; `fixed` does not learn.

    Parameters
    ----------
    kind : {"fixed", "global", "level", "subband"}
        How many scales there are, and whether they learn.
    levels, dims : int
        Levels J of the transform and number of spatial axes.
    initial : float
        s at the start, in units of the (orthonormal) coefficients.
    slice_levels : int, optional
        Levels along the first axis; see `axes_of_levels`.
    """

    def __init__(
        self, kind: NoiseKind, levels: int, dims: int, initial: float, slice_levels: int | None = None
    ) -> None:
        super().__init__()
        self.levels, self.dims = levels, dims
        self.axes = axes_of_levels(levels, dims, slice_levels)
        bands = 2**dims
        shape = {"fixed": (1, 1), "global": (1, 1), "level": (levels, 1), "subband": (levels, bands)}[kind]
        self.log_s = nn.Parameter(torch.full(shape, math.log(initial)), requires_grad=kind != "fixed")

    def forward(self, kind: str, level: int) -> Tensor:
        """Return s of the approximation (`kind` 'a', a scalar) or of a level's details ('d', broadcastable to them)."""
        table = self.log_s.exp().expand(self.levels, 2**self.dims)
        if kind == "a":
            return table[level - 1, 0]
        return table[level - 1, self._bands(level)].reshape(1, -1, *([1] * (self.dims + 1)))

    def by_subband(self) -> dict[str, float]:
        """Return s by subband name and level ('aa3', 'ad3', ... 'dd1')."""
        table = self.log_s.detach().exp().expand(self.levels, 2**self.dims)
        names = subband_names(self.dims)
        scales = {f"{names[0]}{self.levels}": float(table[-1, 0])}
        for level in range(self.levels, 0, -1):
            scales |= {f"{names[k]}{level}": float(table[level - 1, k]) for k in self._bands(level)}
        return scales

    def _bands(self, level: int) -> list[int]:
        """Return the places of a level's details among all subbands of its axes."""
        split = self.axes[level - 1]
        names = enumerate(subband_names(self.dims))
        return [k for k, name in names if k and all(name[axis] == "a" or axis in split for axis in range(self.dims))]


def axes_of_levels(levels: int, dims: int, slice_levels: int | None = None) -> tuple[tuple[int, ...], ...]:
    """Return the axes that each level splits, fine to coarse: all, but with `slice_levels` only so many the first.

    The finest levels leave it alone, as `dwt` does with one number of levels per axis: where slices are thick, voxels
    become as wide as they are deep before all axes are split.

    Raises
    ------
    ConfigError
        If there are fewer levels, or none of the first axis' own.
    """
    own = levels if slice_levels is None else slice_levels
    if not 1 <= own <= levels or (own < levels and dims != 3):
        raise ConfigError(f"slice_levels is 1 to the number of levels ({levels}), of networks on volumes; got {own}")
    return tuple(tuple(range(dims)) if level > levels - own else (1, 2) for level in range(1, levels + 1))


class CoefficientEncoder(nn.Module):
    """ĉ = Wx + Δ(x): a U-shaped network that lives in the wavelet domain.

    Level j reads the DWT of its own approximation beside the DWT of the features above it, runs residual blocks, and a
    way back up with the inverse DWT in place of upsampling. Zero-initialised heads predict a correction to each
    subband, so that the untrained encoder is the transform itself. Its first convolution works on a quarter (2D) or an
    eighth (3D) of the image's positions. The image's transform is that of `wavelet`, periodic at the border; features
    are split by Haar. `beside` counts the channels of further images (neighbouring slices) whose transform every level
    reads as well; they have no coefficients among the answer.

    With `fine` channels there is a level of features at the image's own resolution as well, which moves with the image
    by single voxels, where the others move by two. It corrects the image; the transform of that is added to ĉ.
    """

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
        fine: int = 0,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.dims, self.levels, self.wavelet = dims, len(widths), wavelet
        self.axes = axes_of_levels(self.levels, dims, slice_levels)
        counts = [2 ** len(axes) for axes in self.axes]
        stems, downs, ups, joins, heads = [], [], [], [], []
        above = fine
        for j, (width, bands) in enumerate(zip(widths, counts, strict=True)):
            stems.append(conv(dims, bands * (channels + beside + above) + conditions, width))
            downs.append(residuals(dims, width, blocks))
            last = j == self.levels - 1
            heads.append(conv(dims, width, channels * (bands if last else bands - 1), zero=True))
            if not last:
                joins.append(conv(dims, widths[j + 1], counts[j + 1] * width, kernel=1))
                ups.append(residuals(dims, width, blocks))
            above = width
        self.stems, self.downs, self.heads = nn.ModuleList(stems), nn.ModuleList(downs), nn.ModuleList(heads)
        self.joins, self.ups = nn.ModuleList(joins), nn.ModuleList(ups)
        self.fine: FineLevel | None = None
        if fine:
            self.fine = FineLevel(channels, channels + beside + conditions, widths[0], fine, blocks, dims, self.axes[0])
        self.widths = tuple(widths)
        self.scale_heads: nn.ModuleList | None = None

    def add_scale_heads(self) -> None:
        """Add heads that predict a log-scale for every coefficient; silent (0) at the start."""
        counts = [self.channels * (2 ** len(axes) - (level < self.levels)) for level, axes in enumerate(self.axes, 1)]
        self.scale_heads = nn.ModuleList(
            conv(self.dims, width + count, count, zero=True) for width, count in zip(self.widths, counts, strict=True)
        )

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Coefficients:
        """(B, C + beside, *spatial), spatial sizes multiples of 2^levels, to the predicted coefficients of the first C.

        `condition` (B or 1, K, 1, ...) is known of the whole image, such as its noise level; every level reads it.
        """
        coefficients, _ = self._predicted(x, condition)
        return coefficients

    def with_scales(self, x: Tensor, condition: Tensor | None = None) -> tuple[Coefficients, Coefficients]:
        """Return what `forward` returns, and the log-scale of every coefficient (0 without `add_scale_heads`).

        The heads read the features and log |ĉ|, without sending a gradient into either; their answers lie within
        ±`LOCAL`. The scale of a coefficient goes with the magnitudes of its neighbours (Portilla, Strela, Wainwright
        and Simoncelli 2003). Features have signs, and a linear head finds no magnitude among them.
        """
        coefficients, features = self._predicted(x, condition)
        silent = coefficients.map_stacked(lambda kind, level, part: torch.zeros_like(part))
        if self.scale_heads is None:
            return coefficients, silent
        logs = []
        for head, feature, own in zip(self.scale_heads, features, _by_level(coefficients), strict=True):
            size = (own.detach() / SMALL).square().log1p() / -2 / math.log(SMALL)  # 0 to about 1, as features are
            logs.append(head(torch.cat((feature.detach(), size), dim=1)).float())
        return coefficients, _corrected(silent, [LOCAL * torch.tanh(log / LOCAL) for log in logs])

    def _predicted(self, x: Tensor, condition: Tensor | None) -> tuple[Coefficients, list[Tensor]]:
        """Return ĉ and the features that it was read from, fine to coarse."""
        approximations, details = self._transformed(x)
        coefficients = self._coefficients(approximations, details, tuple(x.shape[2:]))
        features: list[Tensor] = []
        full = above = None if self.fine is None else self.fine.down(x, condition)
        for j in range(self.levels):
            inputs = [approximations[j], details[j].flatten(1, 2)]
            if condition is not None:
                inputs.append(condition.expand(len(x), -1, *inputs[0].shape[2:]))
            if above is not None:
                low, high = _split(above, self.axes[j])
                inputs += [low.float(), high.flatten(1, 2).float()]
            above = self.downs[j](F.relu(self.stems[j](torch.cat(inputs, dim=1))))
            features.append(above)
        for j in range(self.levels - 2, -1, -1):
            features[j] = self.ups[j](
                features[j] + _lifted(self.joins[j], features[j + 1], features[j], self.axes[j + 1])
            )
        corrections = [head(feature).float() for head, feature in zip(self.heads, features, strict=True)]
        coefficients = _corrected(coefficients, corrections)
        if self.fine is not None and full is not None:
            change = self._transformed(self.fine.up(full, features[0]))
            coefficients = coefficients.replace(
                coefficients.approximation + change[0][-1],
                tuple(d + own for d, own in zip(coefficients.details, change[1][::-1], strict=True)),
            )
        return coefficients, features

    def _transformed(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
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

    def _coefficients(
        self, approximations: list[Tensor], details: list[Tensor], shape: tuple[int, ...]
    ) -> Coefficients:
        shapes = (shape, *(tuple(image.shape[2:]) for image in approximations[:-1]))
        own = self.channels
        return Coefficients(
            approximations[-1][:, :own],
            tuple(d[:, :, :own] for d in details[::-1]),
            shapes[::-1],
            self.axes[::-1],
            self.wavelet,
        )


class FineLevel(nn.Module):
    """Features at the image's own resolution, above the first level of a `CoefficientEncoder`.

    Parameters
    ----------
    channels, inputs : int
        Of the image, and of all that is read: image, further images, conditions.
    below, width : int
        Channels of the first level and of this one.
    dims, blocks : int
        Number of spatial axes, residual blocks per direction.
    axes : tuple of int
        What the first level splits.
    """

    def __init__(
        self, channels: int, inputs: int, below: int, width: int, blocks: int, dims: int, axes: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.axes = axes
        self.stem = conv(dims, inputs, width)
        self.first = residuals(dims, width, blocks)
        self.join = conv(dims, below, 2 ** len(axes) * width, kernel=1)
        self.second = residuals(dims, width, blocks)
        self.head = conv(dims, width, channels, zero=True)

    def down(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Return the features that the first level reads, (B, width, *spatial)."""
        if condition is not None:
            x = torch.cat((x, condition.expand(len(x), -1, *x.shape[2:])), dim=1)
        return cast(Tensor, self.first(F.relu(self.stem(x))))

    def up(self, features: Tensor, below: Tensor) -> Tensor:
        """Return the correction of the image, (B, channels, *spatial), 0 at the start."""
        return cast(Tensor, self.head(self.second(features + _lifted(self.join, below, features, self.axes)))).float()


def _lifted(join: nn.Module, coarse: Tensor, fine: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Return features of the coarser level, shaped like those of the finer one."""
    return _merged(join(coarse).unflatten(1, (2 ** len(axes), -1)), tuple(fine.shape[2:]), axes)


def _split(x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Split features (B, W, *spatial) by Haar along the last axes, in their own precision."""
    left = x.ndim - 2 - len(axes)  # slices that are left alone are channels to the transform
    if not left:
        return plain.split(x, "haar", "periodization", adjoint=False)
    low, high = plain.split(x.flatten(1, 1 + left), "haar", "periodization", adjoint=False)
    untouched = x.shape[1 : 2 + left]
    return torch.unflatten(low, 1, untouched), torch.unflatten(high, 2, untouched)


def _merged(bands: Tensor, shape: tuple[int, ...], axes: tuple[int, ...]) -> Tensor:
    """Undo `_split`: bands (B, bands, W, *coarse), the approximation first, to (B, W, *shape)."""
    left = len(shape) - len(axes)
    if not left:
        return plain.merge(bands[:, 0], bands[:, 1:], shape, "haar", "periodization", adjoint=False)
    flat = bands.flatten(2, 2 + left)
    merged = plain.merge(flat[:, 0], flat[:, 1:], shape[left:], "haar", "periodization", adjoint=False)
    return torch.unflatten(merged, 1, bands.shape[2 : 3 + left])


def _by_level(coefficients: Coefficients) -> list[Tensor]:
    """Return the coefficients of each level, fine to coarse, in the layout of the heads: (B, bands·C, ...)."""
    parts = [d.flatten(1, 2) for d in coefficients.details[::-1]]
    return [*parts[:-1], torch.cat((coefficients.approximation, parts[-1]), dim=1)]


def _corrected(coefficients: Coefficients, corrections: list[Tensor]) -> Coefficients:
    """Add the heads' outputs (fine to coarse, (B, bands·C, ...)) to the coefficients."""
    levels = coefficients.levels
    details = []
    for i, d in enumerate(coefficients.details):
        delta = torch.unflatten(corrections[levels - 1 - i], 1, (-1, d.shape[2]))
        details.append(d + delta[:, -d.shape[1] :])
    coarsest = torch.unflatten(corrections[-1], 1, (-1, coefficients.approximation.shape[1]))
    return coefficients.replace(coefficients.approximation + coarsest[:, 0], tuple(details))
