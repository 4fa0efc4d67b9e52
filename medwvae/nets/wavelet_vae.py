"""The Wavelet-VAE: the latent is a multi-level set of wavelet coefficients.

Modes (docs/model.md): `sparse`, the autoencoder of Kiruluta (arXiv 2504.13214) with its learnable noise scale and L1
sparsity on the details; `restore`, the amortised restoration model, which corrects the coefficients of A†y and is
unrolled with exact data consistency.
"""

from typing import Literal, cast

import torch
from torch import Tensor, nn

from medwvae.nets.blocks import conv, crop_to, pad_to_multiple
from medwvae.nets.restorer import Estimate, Restorer
from medwvae.nets.wavelet_encoder import CoefficientEncoder, NoiseKind, NoiseScale
from medwvae.operators import Measurement
from medwvae.wavelets import Coefficients, dwt, idwt

Objective = Literal["sparse", "restore"]


class WaveletVAE(Restorer):
    """Wavelet-VAE for one 2D (or 3D) image of 1 (real) or 2 (complex) channels.

    Parameters
    ----------
    objective : {"sparse", "restore"}
        Mode A or C.
    conditions : int
        Known numbers per image that the encoder reads (1 for the noise level of denoising).
    rounds : int
        K: rounds of [encode, inverse transform, data consistency]. More than one pays only with known samples.
    shared : bool
        Whether the rounds share one encoder.
    positivity : int
        Alternating projections before the first round (POCS: Haacke, Lindskog and Lin 1991): onto real, non-negative
        images, as demodulated tissue is, and onto the known samples. They cost no training.
    sparsity : float
        λ of λ Σ |ĉ_details|₁ (mean over coefficients), mode A.
    kl_weight : float
        β of KL(q(a_J) ‖ N(0, I)) (mean over coefficients), mode A; 0 turns it off.
    scale_weight : float
        Mode C: weight of the Gaussian negative log-likelihood that fits s to the residual coefficients. The mean ĉ is
        detached there, so s is calibrated without bending the restoration.
    refine : int
        Width of the refinement r_θ after the inverse transform (full resolution); 0 for none.
    slice_levels : int, optional
        Levels along the first axis of volumes with thick slices, fewer than in plane; see `axes_of_levels`.
    """

    def __init__(
        self,
        *,
        objective: Objective,
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
        sparsity: float = 1e-3,
        kl_weight: float = 0.0,
        scale_weight: float = 1e-3,
        refine: int = 0,
        slice_levels: int | None = None,
    ) -> None:
        super().__init__()
        self.objective, self.dims, self.levels = objective, dims, len(widths)
        self.sparsity, self.kl_weight, self.scale_weight = sparsity, kl_weight, scale_weight
        encoders = 1 if shared else rounds
        self.rounds, self.positivity = rounds, positivity
        self.encoders = nn.ModuleList(
            CoefficientEncoder(channels, widths, blocks, dims, conditions, slice_levels=slice_levels)
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

    def encode(self, x: Tensor, condition: Tensor | None = None, round_index: int = 0) -> Coefficients:
        """Predict ĉ for (B, C, *spatial) of any size (padded by replication to multiples of 2^levels)."""
        padded = pad_to_multiple(x, self.alignment(), self.dims)
        return cast(Coefficients, self.encoders[round_index % len(self.encoders)](padded, condition))

    def decode(self, coefficients: Coefficients, shape: tuple[int, ...]) -> Tensor:
        """r_θ(W⁻¹ c) cropped to `shape`."""
        image = crop_to(idwt(coefficients), shape)
        return image if self.refinement is None else image + self.refinement(image).float()

    def forward(self, measurement: Measurement, truth: Tensor | None = None) -> Estimate:
        """Restore (mode C) or autoencode (mode A) a batch; see `Restorer.forward`."""
        x = measurement.start
        shape = tuple(x.shape[2:])
        for _ in range(self.positivity):
            x = measurement.project(torch.cat((x[:, :1].clamp(min=0), torch.zeros_like(x[:, 1:])), dim=1))
        for k in range(self.rounds):
            coefficients = self.encode(x, measurement.sigma, k)
            noisy = self._sample(coefficients) if self.objective == "sparse" and self.training else coefficients
            x = measurement.project(self.decode(noisy, shape))
        terms: dict[str, Tensor] = {}
        if truth is not None:
            terms = self._sparse_terms(coefficients) if self.objective == "sparse" else self._scale_terms(x, truth)
        penalty = torch.stack(list(terms.values())).sum() if terms else x.new_zeros(())
        return Estimate(x, penalty, {name: term.detach() for name, term in terms.items()})

    def scales(self) -> dict[str, float]:
        """Learned s by subband."""
        return self.noise.by_subband()

    def _sample(self, coefficients: Coefficients) -> Coefficients:
        """c̃ = ĉ + s·ε."""
        return coefficients.map_stacked(lambda kind, level, c: c + self.noise(kind, level) * torch.randn_like(c))

    def _sparse_terms(self, coefficients: Coefficients) -> dict[str, Tensor]:
        count = sum(d.numel() for d in coefficients.details)
        l1 = torch.stack([d.abs().sum() for d in coefficients.details]).sum() / count
        terms = {"sparsity": self.sparsity * l1}
        if self.kl_weight:
            mean, s = coefficients.approximation, self.noise("a", self.levels)
            kl = 0.5 * (mean.square() + s.square() - 1).mean() - s.log()
            terms["kl"] = self.kl_weight * kl
        return terms

    def _scale_terms(self, image: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """Gaussian NLL of the residual coefficients under s, mean over coefficients (up to ½ log 2π)."""
        residual = dwt(pad_to_multiple(truth - image.detach(), self.alignment(), self.dims), self.per_axis, self.dims)
        total, count = image.new_zeros(()), 0
        parts = [("a", residual.levels, residual.approximation)]
        parts += [("d", residual.levels - i, d) for i, d in enumerate(residual.details)]
        for kind, level, r in parts:
            s = self.noise(kind, level)
            total = total + ((r / s).square() / 2 + s.log()).sum()
            count += r.numel()
        return {"scale": self.scale_weight * total / count}
