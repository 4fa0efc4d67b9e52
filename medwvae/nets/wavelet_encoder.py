"""The encoder of the generative Wavelet-VAEs: a correction of every coefficient."""

import torch
from torch import Tensor, nn

from medwvae.nets.blocks import conv
from medwvae.nets.wavelet_trunk import WaveletTrunk
from medwvae.wavelets import Coefficients


class CoefficientEncoder(WaveletTrunk):
    """ĉ = Wx + Δ(x): zero-initialised heads predict a correction to each subband from the features of its level.

    The untrained encoder is the transform itself. Parameters are those of `WaveletTrunk`.
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
    ) -> None:
        super().__init__(channels, widths, blocks, dims, conditions, wavelet, slice_levels)
        counts = [bands if j == self.levels - 1 else bands - 1 for j, bands in enumerate(self.bands)]
        self.heads = nn.ModuleList(
            conv(dims, width, channels * count, zero=True) for width, count in zip(widths, counts, strict=True)
        )

    def freeze_below(self, finest: int) -> None:
        """Train nothing that only corrects details of levels finer than `finest` (1: all), which nobody asks for.

        Processes that train together wait for the gradient of everything that asks for one.
        """
        for j in range(finest - 1):
            for part in (self.heads[j], *(parts[j] for parts in (self.ups, self.joins) if j < len(parts))):
                part.requires_grad_(False)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Coefficients:
        """(B, C, *spatial), spatial sizes multiples of 2^levels, to the predicted coefficients."""
        approximations, details = self.transformed(x)
        features = self.features(approximations, details, condition)
        corrections = [head(feature).float() for head, feature in zip(self.heads, features, strict=True)]
        return corrected(self.coefficients(approximations, details, tuple(x.shape[2:])), corrections)


def corrected(coefficients: Coefficients, corrections: list[Tensor]) -> Coefficients:
    """Add the heads' outputs (fine to coarse, (B, bands·C, ...)) to the coefficients."""
    levels = coefficients.levels
    details = []
    for i, d in enumerate(coefficients.details):
        delta = torch.unflatten(corrections[levels - 1 - i], 1, (-1, d.shape[2]))
        details.append(d + delta[:, -d.shape[1] :])
    coarsest = torch.unflatten(corrections[-1], 1, (-1, coefficients.approximation.shape[1]))
    return coefficients.replace(coefficients.approximation + coarsest[:, 0], tuple(details))
