"""The Wavelet-VAE: the latent is a multi-level set of wavelet coefficients.

Modes (docs/model.md): `sparse`, the autoencoder of Kiruluta (arXiv 2504.13214) with its learnable noise scale and L1
sparsity on the details; `restore`, the amortised restoration model, which corrects the coefficients of A†y and is
unrolled with exact data consistency.
"""

import math
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medwvae.nets.blocks import conv, crop_to, pad_to_multiple, residuals
from medwvae.nets.restorer import Estimate, Restorer
from medwvae.operators import Measurement
from medwvae.wavelets import Coefficients, analyse, dwt, idwt, subband_names
from medwvae.wavelets import fallback as plain  # features stay in their own, often half, precision

NoiseKind = Literal["fixed", "global", "level", "subband"]
Objective = Literal["sparse", "restore"]


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
    eighth (3D) of the image's positions.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], blocks: int, dims: int = 2, conditions: int = 0) -> None:
        super().__init__()
        self.dims, self.levels = dims, len(widths)
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
                low, high = analyse(approximations[-1] if approximations else x.float(), self.dims)
                approximations.append(low)
                details.append(high)
            shapes = tuple(tuple(image.shape[2:]) for image in (x, *approximations[:-1]))
            axes = (tuple(range(self.dims)),) * self.levels
            coefficients = Coefficients(approximations[-1], tuple(details[::-1]), shapes[::-1], axes)
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
    ) -> None:
        super().__init__()
        self.objective, self.dims, self.levels = objective, dims, len(widths)
        self.sparsity, self.kl_weight, self.scale_weight = sparsity, kl_weight, scale_weight
        encoders = 1 if shared else rounds
        self.rounds, self.positivity = rounds, positivity
        self.encoders = nn.ModuleList(
            CoefficientEncoder(channels, widths, blocks, dims, conditions) for _ in range(encoders)
        )
        self.noise = NoiseScale(noise, self.levels, dims, initial_noise)
        self.refinement = (
            nn.Sequential(conv(dims, channels, refine), nn.ReLU(), conv(dims, refine, channels, zero=True))
            if refine
            else None
        )

    def encode(self, x: Tensor, condition: Tensor | None = None, round_index: int = 0) -> Coefficients:
        """Predict ĉ for (B, C, *spatial) of any size (padded by replication to a multiple of 2^levels)."""
        padded = pad_to_multiple(x, 2**self.levels, self.dims)
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
        residual = dwt(pad_to_multiple(truth - image.detach(), 2**self.levels, self.dims), self.levels, self.dims)
        total, count = image.new_zeros(()), 0
        parts = [("a", residual.levels, residual.approximation)]
        parts += [("d", residual.levels - i, d) for i, d in enumerate(residual.details)]
        for kind, level, r in parts:
            s = self.noise(kind, level)
            total = total + ((r / s).square() / 2 + s.log()).sum()
            count += r.numel()
        return {"scale": self.scale_weight * total / count}


def _corrected(coefficients: Coefficients, corrections: list[Tensor]) -> Coefficients:
    """Add the heads' outputs (fine to coarse, (B, bands·C, ...)) to the coefficients."""
    levels = coefficients.levels
    details = []
    for i, d in enumerate(coefficients.details):
        delta = torch.unflatten(corrections[levels - 1 - i], 1, (-1, d.shape[2]))
        details.append(d + delta[:, -d.shape[1] :])
    coarsest = torch.unflatten(corrections[-1], 1, (-1, coefficients.approximation.shape[1]))
    return coefficients.replace(coefficients.approximation + coarsest[:, 0], tuple(details))
