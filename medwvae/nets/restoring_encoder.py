"""The encoder of the restoring Wavelet-VAE: a correction of the image, in the wavelet domain."""

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medwvae.nets.blocks import conv, residuals, strided
from medwvae.nets.wavelet_encoder import corrected
from medwvae.nets.wavelet_trunk import WaveletTrunk, merged
from medwvae.wavelets import Coefficients

LOCAL = 5.0
"""Bound of a coefficient's own |log-scale|: a factor of 150 either way, beyond which no residual asks."""
AUDIBLE = 10.0
"""By which conditions are multiplied for these heads. Beside an image they are kept small, so that they do not slow its
learning; a log-scale has to follow them by itself, in the small steps of AdamW."""
HIDDEN = 16
"""Channels between the two layers of these heads. With fewer samples errors grow in the head and not in the air around
it, which no sum of the two can say."""
SMALL = 3e-3
"""Coefficients below this, in network units, are alike to the heads of the scales."""


class RestoringEncoder(WaveletTrunk):
    """ĉ = W(x + Δ(x)): one head at the finest features predicts the correction of all coefficients.

    The head is zero-initialised, so that the untrained encoder is the transform itself. It predicts the subbands of the
    first level, the approximation among them, which the transform hands on to the coarser levels; coarser features have
    come up by then. Heads at every level, which suit the generative models, learn more slowly here: in accelerated MRI
    they cost 0.25 dB after two minutes. Levels read their coefficients by 1×1 convolutions; 3×3 ones take a quarter
    more time for the same answer. Of the subbands of features a 1×1 convolution is one of size and stride 2, whatever
    the orthogonal transform between, and the way back is its transpose: there is no DWT of features to compute.

    With `fine` channels there is a level of features at the image's own resolution as well, which moves with the image
    by single voxels, where the others move by two; the head is there then. With `follows`, every level also reads its
    features of the round before, by 1×1 convolutions that are silent at the start: from an image alone each round
    would have to find everything again (the feature-image VarNet passes features on too: Giannakopoulos et al., Sci
    Rep 14, 2024). Other parameters are those of `WaveletTrunk`.
    """

    SILENT = True

    def __init__(
        self,
        channels: int,
        widths: tuple[int, ...],
        blocks: int,
        dims: int = 2,
        conditions: int = 0,
        slice_levels: int | None = None,
        beside: int = 0,
        fine: int = 0,
        follows: bool = False,
    ) -> None:
        super().__init__(channels, widths, blocks, dims, conditions, "haar", slice_levels, beside, above=fine)
        self.fine: FineLevel | None = None
        self.head: nn.Module | None = None
        if fine:
            self.fine = FineLevel(channels, channels + beside + conditions, widths[0], fine, blocks, dims, self.axes[0])
        else:
            self.head = conv(dims, widths[0], channels * self.bands[0], zero=True)
        self.carry: nn.ModuleList | None = None
        if follows:
            passed = (fine, *widths) if fine else widths
            self.carry = nn.ModuleList(conv(dims, width, width, kernel=1, zero=True) for width in passed)
        self.scale_heads: nn.ModuleList | None = None

    def stem(self, j: int, own: int, above: int, conditions: int) -> nn.Module:
        """See `WaveletTrunk.stem`."""
        return StridedStem(self.dims, own, above, conditions, self.widths[j], self.axes[j])

    def read(
        self, j: int, own: Tensor, above: Tensor | None, condition: Tensor | None, before: list[Tensor] | None = None
    ) -> Tensor:
        """See `WaveletTrunk.read`."""
        return self._with(self.stems[j](own, above, condition), before, j - self.levels)

    def join(self, j: int) -> nn.Module:
        """See `WaveletTrunk.join`."""
        return strided(self.dims, self.widths[j + 1], self.widths[j], self.axes[j + 1], transposed=True)

    def lift(self, j: int, coarse: Tensor, shape: tuple[int, ...]) -> Tensor:
        """See `WaveletTrunk.lift`."""
        return cast(Tensor, self.joins[j](coarse))

    def add_scale_heads(self, conditions: int = 0) -> None:
        """Add heads that predict a log-scale for every coefficient; silent (0) at the start."""
        last = self.levels - 1
        counts = [self.channels * (bands - (level < last)) for level, bands in enumerate(self.bands)]
        self.scale_heads = nn.ModuleList(
            nn.Sequential(
                conv(self.dims, width + count + conditions, HIDDEN),
                nn.ReLU(),
                conv(self.dims, HIDDEN, count, kernel=1, zero=True),
            )
            for width, count in zip(self.widths, counts, strict=True)
        )

    def forward(
        self, x: Tensor, condition: Tensor | None = None, before: list[Tensor] | None = None
    ) -> tuple[Coefficients, list[Tensor]]:
        """Return the predicted coefficients of the first C channels, and the features that they were read from.

        Parameters
        ----------
        x : Tensor
            (B, C + beside, *spatial), spatial sizes multiples of 2^levels; the image's channels first.
        condition : Tensor, optional
            (B or 1, K, 1, ...), known of the whole image, such as its noise level; every level reads it.
        before : list of Tensor, optional
            Features of the round before, as this returns them: fine to coarse, those at the image's own resolution
            first where there are such. Read with `follows` alone.
        """
        approximations, details = self.transformed(x)
        shape = tuple(x.shape[2:])
        if self.fine is not None:
            full = self.fine.down(self._with(self.fine.read(x, condition), before, 0))
            features = self.features(approximations, details, condition, full, before)
            features = [self.fine.up(full, features[0]), *features]
            correction = self.fine.correction(features[0])
        else:
            features = self.features(approximations, details, condition, before=before)
            bands = cast(nn.Module, self.head)(features[0]).float()
            correction = merged(bands.unflatten(1, (self.bands[0], -1)), shape, self.axes[0])
        own = x[:, : self.channels].float() + correction
        return self.coefficients(*self.transformed(own), shape), features

    def _with(self, read: Tensor, before: list[Tensor] | None, place: int) -> Tensor:
        """Add features of the round before to what was read at a place of them, fine to coarse."""
        return read if before is None or self.carry is None else read + self.carry[place](before[place])

    def local_log_scales(
        self, coefficients: Coefficients, features: list[Tensor], condition: Tensor | None = None
    ) -> Coefficients:
        """Return the log-scale of every coefficient that `forward` returned (0 without `add_scale_heads`).

        The heads read the features, log |ĉ| and the condition, without sending a gradient into any; their answers lie
        within ±`LOCAL`. The scale of a coefficient goes with the magnitudes of its neighbours (Portilla, Strela,
        Wainwright and Simoncelli 2003). Features have signs, and heads find no magnitude among them; nor do they find
        in them how many samples a mask happened to draw, with which the errors of all coefficients go.
        """
        silent = coefficients.map_stacked(lambda kind, level, part: torch.zeros_like(part))
        if self.scale_heads is None:
            return silent
        logs = []
        for head, feature, own in zip(self.scale_heads, features[-self.levels :], _by_level(coefficients), strict=True):
            size = (own.detach() / SMALL).square().log1p() / -2 / math.log(SMALL)  # 0 to about 1, as features are
            read = [feature.detach(), size]
            if condition is not None:
                read.append((AUDIBLE * condition).expand(len(own), -1, *own.shape[2:]))
            logs.append(head(torch.cat(read, dim=1)).float())
        return corrected(silent, [LOCAL * torch.tanh(log / LOCAL) for log in logs])


class StridedStem(nn.Module):
    """1×1 convolutions of a level's coefficients and conditions, and one of size and stride 2 of finer features."""

    def __init__(self, dims: int, own: int, above: int, conditions: int, width: int, axes: tuple[int, ...]) -> None:
        super().__init__()
        self.own = conv(dims, own, width, kernel=1)
        self.above = strided(dims, above, width, axes) if above else None
        self.known = conv(dims, conditions, width, kernel=1) if conditions else None

    def forward(self, own: Tensor, above: Tensor | None, condition: Tensor | None) -> Tensor:
        """Map to (B, width, *coarse)."""
        read = cast(Tensor, self.own(own))
        if above is not None and self.above is not None:
            read = read + self.above(above)
        if condition is not None and self.known is not None:
            read = read + self.known(condition)
        return read


class FineLevel(nn.Module):
    """Features at the image's own resolution, above the first level of a `RestoringEncoder`.

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
        self.stem = conv(dims, inputs, width)
        self.first = residuals(dims, width, blocks, silent=True)
        self.join = strided(dims, below, width, axes, transposed=True)
        self.second = residuals(dims, width, blocks, silent=True)
        self.head = conv(dims, width, channels, zero=True)

    def read(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Map all images and conditions to features (B, width, *spatial)."""
        if condition is not None:
            x = torch.cat((x, condition.expand(len(x), -1, *x.shape[2:])), dim=1)
        return cast(Tensor, self.stem(x))

    def down(self, read: Tensor) -> Tensor:
        """Return the features that the first level reads, (B, width, *spatial)."""
        return cast(Tensor, self.first(F.relu(read)))

    def up(self, features: Tensor, below: Tensor) -> Tensor:
        """Return the features that the correction is read from, (B, width, *spatial)."""
        return cast(Tensor, self.second(features + self.join(below)))

    def correction(self, features: Tensor) -> Tensor:
        """Return the correction of the image, (B, channels, *spatial), 0 at the start."""
        return cast(Tensor, self.head(features)).float()


def _by_level(coefficients: Coefficients) -> list[Tensor]:
    """Return the coefficients of each level, fine to coarse, in the layout of the heads: (B, bands·C, ...)."""
    parts = [d.flatten(1, 2) for d in coefficients.details[::-1]]
    return [*parts[:-1], torch.cat((coefficients.approximation, parts[-1]), dim=1)]
