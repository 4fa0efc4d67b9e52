"""The Wavelet-VAE that restores: it corrects the wavelet coefficients of the measurement's own image.

Unrolled with exact data consistency; docs/model.md. The generative models are in `medwvae.nets.wavelet_latent`.
"""

from typing import cast

import torch
from torch import Tensor, nn

from medwvae.nets.blocks import conv, crop_to, pad_to_multiple
from medwvae.nets.restorer import Estimate, Restorer
from medwvae.nets.wavelet_encoder import CoefficientEncoder, NoiseKind, NoiseScale
from medwvae.operators import Measurement
from medwvae.wavelets import Coefficients, dwt, idwt


class WaveletVAE(Restorer):
    """Wavelet-VAE for one 2D (or 3D) image of 1 (real) or 2 (complex) channels.

    Parameters
    ----------
    conditions : int
        How many of `Measurement.conditions` the encoder reads, the first ones (1 for the noise level of denoising).
    rounds : int
        K: rounds of [encode, inverse transform, data consistency]. More than one pays only with known samples.
    shared : bool
        Whether the rounds share one encoder.
    positivity : int
        Alternating projections before the first round (POCS: Haacke, Lindskog and Lin 1991): onto real, non-negative
        images, as demodulated tissue is, and onto the known samples. They cost no training.
    noise, initial_noise
        Sharing and start of the scale s of q(c | y) = N(ĉ, s²); no noise is drawn.
    scale_weight : float
        Weight of the Gaussian negative log-likelihood that fits s to the residual coefficients. The mean ĉ is detached
        there, so s is calibrated without bending the restoration.
    refine : int
        Width of the refinement r_θ after the inverse transform (full resolution); 0 for none.
    slice_levels : int, optional
        Levels along the first axis of volumes with thick slices, fewer than in plane; see `axes_of_levels`.
    neighbours : int
        Slices on either side whose starts the encoder reads (`Measurement.neighbours`), in every round.
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        conditions: int = 0,
        dims: int = 2,
        widths: tuple[int, ...] = (32, 48, 64),
        blocks: int = 2,
        rounds: int = 1,
        shared: bool = False,
        positivity: int = 0,
        noise: NoiseKind = "subband",
        initial_noise: float = 0.1,
        scale_weight: float = 1e-3,
        refine: int = 0,
        slice_levels: int | None = None,
        neighbours: int = 0,
    ) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.dims, self.levels, self.scale_weight = dims, len(widths), scale_weight
        encoders = 1 if shared else rounds
        self.conditions, self.rounds, self.positivity = conditions, rounds, positivity
        self.encoders = nn.ModuleList(
            CoefficientEncoder(
                channels,
                widths,
                blocks,
                dims,
                conditions,
                slice_levels=slice_levels,
                beside=2 * neighbours * channels,
            )
            for _ in range(encoders)
        )
        self.noise = NoiseScale(noise, self.levels, dims, initial_noise, slice_levels)
        self.per_axis = tuple(sum(axis in axes for axes in self.noise.axes) for axis in range(dims))
        self.refinement = (
            nn.Sequential(conv(dims, channels, refine), nn.ReLU(), conv(dims, refine, channels, zero=True))
            if refine
            else None
        )

    def alignment(self) -> tuple[int, ...]:
        """See `Restorer.alignment`."""
        return tuple(2**own for own in self.per_axis)

    def encode(
        self, x: Tensor, condition: Tensor | None = None, round_index: int = 0, neighbours: Tensor | None = None
    ) -> Coefficients:
        """Predict ĉ for (B, C, *spatial) of any size (padded by replication to multiples of 2^levels)."""
        x = x if neighbours is None else torch.cat((x, neighbours), dim=1)
        padded = pad_to_multiple(x, self.alignment(), self.dims)
        return cast(Coefficients, self.encoders[round_index % len(self.encoders)](padded, condition))

    def decode(self, coefficients: Coefficients, shape: tuple[int, ...]) -> Tensor:
        """r_θ(W⁻¹ c) cropped to `shape`."""
        image = crop_to(idwt(coefficients), shape)
        return image if self.refinement is None else image + self.refinement(image).float()

    def forward(self, measurement: Measurement, truth: Tensor | None = None) -> Estimate:
        """Restore a batch; see `Restorer.forward`."""
        x = measurement.start
        shape = tuple(x.shape[2:])
        for _ in range(self.positivity):
            x = measurement.project(torch.cat((x[:, :1].clamp(min=0), torch.zeros_like(x[:, 1:])), dim=1))
        known = measurement.conditions()[:, : self.conditions] if self.conditions else None
        for k in range(self.rounds):
            x = measurement.project(self.decode(self.encode(x, known, k, measurement.neighbours), shape))
        if truth is None:
            return Estimate(x, x.new_zeros(()), {})
        penalty = self._scale_term(x, truth)
        return Estimate(x, penalty, {"scale": penalty.detach()})

    def scales(self) -> dict[str, float]:
        """Learned s by subband."""
        return self.noise.by_subband()

    def _scale_term(self, image: Tensor, truth: Tensor) -> Tensor:
        """`scale_weight` × Gaussian NLL of the residual coefficients under s, their mean (up to ½ log 2π)."""
        residual = dwt(pad_to_multiple(truth - image.detach(), self.alignment(), self.dims), self.per_axis, self.dims)
        total, count = image.new_zeros(()), 0
        parts = [("a", residual.levels, residual.approximation)]
        parts += [("d", residual.levels - i, d) for i, d in enumerate(residual.details)]
        for kind, level, r in parts:
            s = self.noise(kind, level)
            total = total + ((r / s).square() / 2 + s.log()).sum()
            count += r.numel()
        return self.scale_weight * total / count
