"""What a restoration method may see of an image."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from medwvae.operators.base import STEPS, Operator
from medwvae.operators.fourier import FourierSampling
from medwvae.operators.inpainting import Masking

NoiseLaw = Literal["rician", "gaussian", "poisson"]
CONDITIONS = ("sigma", "log2(reduction) / 10")
"""What `Measurement.conditions` holds; weights that learned to read anything else do not fit."""
EXPECTED_ERROR = 0.02
"""Of an image, where nothing better is known, at samples with noise: standard deviation, in network units; a choice."""


@dataclass(frozen=True)
class Measurement:
    """What a restoration method may see.

    Attributes
    ----------
    start : Tensor
        A†y, (B, C, *spatial): the noisy, zero-filled or back-projected image, demodulated where there is a `phasor`.
    operator : Operator or None
        A, with which data consistency can be had; None for denoising, where it is the identity.
    data : Tensor or None
        y = A x (+ noise), in the operator's own shape; None for denoising.
    sigma : Tensor or None
        Noise standard deviation in image units, (B or 1, 1, ..., 1), for denoising. Of Poisson noise, whose standard
        deviation follows the signal: that at the volume's maximum.
    law : {'rician', 'gaussian', 'poisson'}
        Distribution of the noise, where there is a `sigma`.
    maximum : Tensor or None
        The volume's maximum, shaped like `sigma`, where the noise law needs it (`poisson`).
    label : Tensor or None
        Class of each image (contrast, modality), int64, (B,), for models that read it.
    noise : Tensor or None
        Standard deviation of the noise of a sample of `data`, of its real and of its imaginary part, (B or 1, 1, 1, 1),
        in image units; None where samples are exact.
    neighbours : Tensor or None
        Starts of the slices on either side, in order, (B, 2 n C, H, W), for networks on slices that read them.
    exact : bool
        Whether `data` without a `noise` are free of noise. Those of few photons are not, and have no one level.
    steps : int
        Of conjugate gradients, in `project` and `proximal`, where there is no formula.
    """

    start: Tensor
    operator: Operator | None = None
    data: Tensor | None = None
    sigma: Tensor | None = None
    law: NoiseLaw = "rician"
    maximum: Tensor | None = None
    label: Tensor | None = None
    noise: Tensor | None = None
    neighbours: Tensor | None = None
    exact: bool = True
    steps: int = STEPS

    @property
    def mask(self) -> Tensor | None:
        """Measured positions, bool, that broadcast to k-space (B, coils, *spatial) or to the image; None without."""
        return None if self.operator is None else self.operator.mask

    @property
    def local(self) -> bool:
        """Whether what is known of a voxel concerns that voxel alone (noise): nothing is known exactly."""
        return self.data is None

    @property
    def kspace(self) -> Tensor | None:
        """The data of a single-coil Cartesian measurement, complex (B, 1, *spatial), zero where not sampled."""
        return self.data if isinstance(self.operator, FourierSampling) else None

    @property
    def known(self) -> Tensor | None:
        """Which pixels are known where others are lost, 1 or 0, (B, 1, *spatial); None where nothing is lost."""
        if not isinstance(self.operator, Masking):
            return None
        return self.operator.mask.to(self.start).expand(len(self.start), 1, *self.start.shape[2:])

    @property
    def phasor(self) -> Tensor | None:
        """e^{iφ̂} of a demodulated k-space measurement, see `medwvae.operators.FourierSampling`."""
        return getattr(self.operator, "phasor", None)

    def __getitem__(self, index: slice) -> "Measurement":
        """Take some images of the batch."""
        batch = len(self.start)
        return self.each(lambda x: x if len(x) == 1 < batch else x[index])

    def to(self, device: torch.device) -> "Measurement":
        """Move to a device."""
        return self.each(lambda x: x.to(device))

    def each(self, function: Callable[[Tensor], Tensor]) -> "Measurement":
        """Apply a function to every tensor, those of the operator among them."""

        def of(x: Tensor | None) -> Tensor | None:
            return None if x is None else function(x)

        return replace(
            self,
            start=function(self.start),
            operator=None if self.operator is None else self.operator.each(function),
            data=of(self.data),
            sigma=of(self.sigma),
            maximum=of(self.maximum),
            label=of(self.label),
            noise=of(self.noise),
            neighbours=of(self.neighbours),
        )

    def project(self, image: Tensor, error: float = EXPECTED_ERROR) -> Tensor:
        """Return the image nearest to `image` that agrees with the data (`Operator.project`); as it is without data.

        Samples with noise of standard deviation σ are agreed with as far as they are trusted: ‖A x − y‖² / σ² +
        ‖x − image‖² / τ² is least, τ = `error` (`Operator.proximal`: of several coils approached in `steps`).
        """
        if self.noise is not None:
            return self.proximal(image, (self.noise / error).square())
        if self.operator is None or self.data is None:
            return image
        return self.operator.project(image, self.data, self.steps)

    def thorough(self, steps: int | None = None) -> "Measurement":
        """Return the measurement with as many `steps` as exact data deserve (`Operator.thorough`): training has fewer.

        Or with those that are given. Noise is met best by few steps, and they stay as they are.
        """
        if self.operator is None or self.noise is not None or not self.exact:
            return self
        return replace(self, steps=steps or max(self.steps, self.operator.thorough))

    def silent(self) -> "Measurement":
        """Return the measurement with data of zero, agreed with as in training: what a difference of answers obeys."""
        return self if self.data is None else replace(self, data=torch.zeros_like(self.data), steps=STEPS)

    def averaged(self, mean: Tensor) -> Tensor:
        """Return the mean of several answers as an answer, which agrees with the data exactly where each did.

        A compromise with noisy samples is affine in the image: the mean of such answers is one, and another would be
        closer to the samples than they deserve.
        """
        return mean if self.noise is not None else self.project(mean)

    def proximal(self, image: Tensor, weight: float | Tensor) -> Tensor:
        """Return a compromise of `image` and the data (`Operator.proximal`); as it is without data."""
        if self.operator is None or self.data is None:
            return image
        return self.operator.proximal(image, self.data, weight, self.steps)

    def conditions(self) -> Tensor:
        """Return what is known of the measurement as a whole, (B or 1, 2, 1, ..., 1), for networks to read.

        The noise level, `sigma` or `noise` (0 where none is known), and a tenth of log₂ of `Operator.reduction` (0
        without an operator): at 2 or 3, a constant channel would outshine an image whose values are below 1, and
        networks learn the image more slowly.
        """
        none = self.start.new_zeros((1,) * self.start.ndim)
        level = self.noise if self.sigma is None else self.sigma
        sigma = none if level is None else level.to(self.start)
        reduction = none
        if self.operator is not None and self.data is not None:
            known = self.operator.reduction(self.start, self.data).log2().div(10).to(self.start)
            reduction = known.reshape(-1, *none.shape[1:])
        rows = max(len(sigma), len(reduction))
        return torch.cat([known.expand(rows, *none.shape[1:]) for known in (sigma, reduction)], dim=1)

    def beside(self, *, mask: bool) -> Tensor | None:
        """Return the images that networks read beside the start: neighbours and, with `mask`, the `known` pixels."""
        parts = [part for part in (self.neighbours, self.known if mask else None) if part is not None]
        return torch.cat(parts, dim=1) if len(parts) > 1 else next(iter(parts), None)

    def conditioned(self, count: int, *, mask: bool = False) -> Tensor:
        """Return the start, what stands `beside` it, and the first `count` of the `conditions` as constant channels."""
        parts = [part for part in (self.start, self.beside(mask=mask)) if part is not None]
        if count:
            parts.append(self.conditions()[:, :count].expand(len(self.start), -1, *self.start.shape[2:]))
        return torch.cat(parts, dim=1) if len(parts) > 1 else self.start

    def with_neighbours(self, count: int) -> "Measurement":
        """Return the measurement of successive slices with `count` neighbours on either side.

        The first and the last slice are repeated.
        """
        if not count:
            return self
        places = torch.arange(len(self.start))
        offsets = [offset for offset in range(-count, count + 1) if offset]
        around = [self.start[(places + offset).clamp(0, len(places) - 1)] for offset in offsets]
        return replace(self, neighbours=torch.cat(around, dim=1))

    def flip(self, axes: tuple[int, ...]) -> "Measurement":
        """Mirror the image axes (of -2, -1): the measurement of the mirrored image, for the flip self-ensemble."""
        if not axes:
            return self
        neighbours = None if self.neighbours is None else self.neighbours.flip(axes)
        mirrored = replace(self, start=self.start.flip(axes), neighbours=neighbours)
        if self.operator is None or self.data is None:
            return mirrored
        operator, data = self.operator.mirrored(axes, self.data)
        return replace(mirrored, operator=operator, data=data)
