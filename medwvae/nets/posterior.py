"""How sure a network in the wavelet domain is of its answer: q(c | y) = N(ĉ, s²), and the images that it stands for."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from medwvae.wavelets import Coefficients, dwt, idwt_variance


@dataclass(frozen=True)
class Posterior:
    """Distribution of an answer.

    Attributes
    ----------
    answer : Tensor
        Its middle: the image of ĉ, (B, C, *spatial).
    coefficients, scales : Coefficients
        ĉ, and s of every coefficient, in the image's units (the transform is orthonormal).
    deviation : callable
        How the image differs for coefficients that differ from ĉ by so much: what of it no datum speaks against.
    free : bool
        Whether `deviation` is the inverse transform alone, and the answer's channel one: then variances add up.
    """

    answer: Tensor
    coefficients: Coefficients
    scales: Coefficients
    deviation: Callable[[Coefficients], Tensor]
    free: bool

    @torch.no_grad()
    def draw(self, noise: Tensor) -> Tensor:
        """Return the image of ĉ + s·ε, (B, C, *spatial).

        Parameters
        ----------
        noise : Tensor
            White N(0, 1), shaped like the image padded to whole blocks. An orthonormal transform keeps it white:
            ε = W noise. So noise belongs to places of the image, and tiles of it can be drawn as the whole is.
        """
        per_axis = tuple(
            sum(axis in axes for axes in self.scales.axes) for axis in range(self.coefficients.spatial_dims)
        )
        white = dwt(noise.to(self.answer), per_axis, self.coefficients.spatial_dims)
        details = tuple(scale * one for scale, one in zip(self.scales.details, white.details, strict=True))
        deviating = self.coefficients.replace(self.scales.approximation * white.approximation, details)
        return self.answer + self.deviation(deviating)

    def variance(self) -> Tensor | None:
        """Return the variance of every voxel, (B, 1, *spatial), where it is known without a draw; else None."""
        if not self.free:
            return None
        squared = self.scales.map_stacked(lambda kind, level, part: part.square())
        image = idwt_variance(squared)
        for axis, size in enumerate(self.answer.shape[2:]):
            image = image.narrow(2 + axis, 0, size)
        return image
