"""The network in the wavelet domain that every Wavelet-VAE shares, and the noise scales of its coefficients."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medwvae.nets.blocks import conv, residuals
from medwvae.wavelets import Coefficients, analyse, subband_names
from medwvae.wavelets import fallback as plain  # features stay in their own, often half, precision

NoiseKind = Literal["fixed", "global", "level", "subband"]


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
    """

    def __init__(self, kind: NoiseKind, levels: int, dims: int, initial: float) -> None:
        super().__init__()
        self.levels, self.dims = levels, dims
        bands = 2**dims
        shape = {"fixed": (1, 1), "global": (1, 1), "level": (levels, 1), "subband": (levels, bands)}[kind]
        self.log_s = nn.Parameter(torch.full(shape, math.log(initial)), requires_grad=kind != "fixed")

    def forward(self, kind: str, level: int) -> Tensor:
        """Return s of the approximation (`kind` 'a', a scalar) or of a level's details ('d', broadcastable to them)."""
        table = self.log_s.exp().expand(self.levels, 2**self.dims)
        if kind == "a":
            return table[level - 1, 0]
        return table[level - 1, 1:].reshape(1, -1, *([1] * (self.dims + 1)))

    def by_subband(self) -> dict[str, float]:
        """Return s by subband name and level ('aa3', 'ad3', ... 'dd1')."""
        table = self.log_s.detach().exp().expand(self.levels, 2**self.dims)
        names = subband_names(self.dims)
        scales = {f"{names[0]}{self.levels}": float(table[-1, 0])}
        for level in range(self.levels, 0, -1):
            scales |= {f"{name}{level}": float(table[level - 1, k]) for k, name in enumerate(names) if k}
        return scales


class CoefficientEncoder(nn.Module):
    """ĉ = Wx + Δ(x): a U-shaped network that lives in the wavelet domain.

    Level j reads the DWT of its own approximation beside the DWT of the features above it, runs residual blocks, and a
    way back up with the inverse DWT in place of upsampling. Zero-initialised heads predict a correction to each
    subband, so that the untrained encoder is the transform itself. Its first convolution works on a quarter (2D) or an
    eighth (3D) of the image's positions. The image's transform is that of `wavelet`, periodic at the border; features
    are split by Haar.
    """

    def __init__(
        self,
        channels: int,
        widths: tuple[int, ...],
        blocks: int,
        dims: int = 2,
        conditions: int = 0,
        wavelet: str = "haar",
    ) -> None:
        super().__init__()
        self.dims, self.levels, self.wavelet = dims, len(widths), wavelet
        bands = 2**dims
        stems, downs, ups, joins, heads = [], [], [], [], []
        above = 0
        for j, width in enumerate(widths):
            stems.append(conv(dims, bands * (channels + above) + conditions, width))
            downs.append(residuals(dims, width, blocks))
            last = j == self.levels - 1
            heads.append(conv(dims, width, channels * (bands if last else bands - 1), zero=True))
            if not last:
                joins.append(conv(dims, widths[j + 1], bands * width, kernel=1))
                ups.append(residuals(dims, width, blocks))
            above = width
        self.stems, self.downs, self.heads = nn.ModuleList(stems), nn.ModuleList(downs), nn.ModuleList(heads)
        self.joins, self.ups = nn.ModuleList(joins), nn.ModuleList(ups)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Coefficients:
        """(B, C, *spatial), spatial sizes multiples of 2^levels, to the predicted coefficients.

        `condition` (B or 1, K, 1, ...) is known of the whole image, such as its noise level; every level reads it.
        """
        with torch.autocast(x.device.type, enabled=False):  # the transform of the image itself stays exact
            approximations: list[Tensor] = []
            details: list[Tensor] = []
            for _ in range(self.levels):
                finer = approximations[-1] if approximations else x.float()
                low, high = analyse(finer, self.dims, self.wavelet)
                approximations.append(low)
                details.append(high)
            shapes = tuple(tuple(image.shape[2:]) for image in (x, *approximations[:-1]))
            axes = (tuple(range(self.dims)),) * self.levels
            coefficients = Coefficients(approximations[-1], tuple(details[::-1]), shapes[::-1], axes, self.wavelet)
        features: list[Tensor] = []
        for j in range(self.levels):
            inputs = [approximations[j], details[j].flatten(1, 2)]
            if condition is not None:
                inputs.append(condition.expand(len(x), -1, *inputs[0].shape[2:]))
            if features:
                low, high = plain.split(features[-1], "haar", "periodization", adjoint=False)
                inputs += [low.float(), high.flatten(1, 2).float()]
            features.append(self.downs[j](F.relu(self.stems[j](torch.cat(inputs, dim=1)))))
        for j in range(self.levels - 2, -1, -1):
            lifted = self.joins[j](features[j + 1]).unflatten(1, (2**self.dims, -1))
            shape = tuple(features[j].shape[2:])
            up = plain.merge(lifted[:, 0], lifted[:, 1:], shape, "haar", "periodization", adjoint=False)
            features[j] = self.ups[j](features[j] + up)
        corrections = [head(feature).float() for head, feature in zip(self.heads, features, strict=True)]
        return _corrected(coefficients, corrections)


def _corrected(coefficients: Coefficients, corrections: list[Tensor]) -> Coefficients:
    """Add the heads' outputs (fine to coarse, (B, bands·C, ...)) to the coefficients."""
    levels = coefficients.levels
    details = []
    for i, d in enumerate(coefficients.details):
        delta = torch.unflatten(corrections[levels - 1 - i], 1, (-1, d.shape[2]))
        details.append(d + delta[:, -d.shape[1] :])
    coarsest = torch.unflatten(corrections[-1], 1, (-1, coefficients.approximation.shape[1]))
    return coefficients.replace(coefficients.approximation + coarsest[:, 0], tuple(details))
