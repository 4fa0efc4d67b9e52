"""The Wavelet-VAE as a generative model: z is a set of wavelet coefficients, in paper mode and in ELBO mode.

Kiruluta (arXiv 2504.13214) for the paper mode; docs/model.md has the mathematics of both.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medwvae.errors import ConfigError
from medwvae.losses import LOSSES
from medwvae.names import GenerativeLossName
from medwvae.nets.blocks import conv, crop_to, pad_to_multiple
from medwvae.nets.detail_prior import DetailPrior, draw_laplace, laplace_divergence, laplace_log_density
from medwvae.nets.latent import (
    Bound,
    Latent,
    LatentModel,
    Likelihood,
    Posterior,
    gaussian_divergence,
    gaussian_log_density,
    only,
    per_image,
)
from medwvae.nets.noise_scale import NoiseKind, NoiseScale
from medwvae.nets.rates import kept_subbands
from medwvae.nets.restorer import Estimate
from medwvae.nets.wavelet_encoder import CoefficientEncoder
from medwvae.nets.zones import Zone
from medwvae.operators import Measurement
from medwvae.wavelets import Coefficients, dwt, idwt, subband_names, synthesise
from medwvae.wavelets.filters import filter_bank

Objective = Literal["sparse", "elbo"]
Refinement = Literal["none", "convolution", "wavelet"]
Domain = Literal["image", "wavelet"]
Selection = Literal["subbands", "zone", "top_k"]


class WaveletLatentVAE(LatentModel):
    """q(c | x) = N(ĉ(x), s²) over wavelet coefficients c; x̂ = r(W⁻¹ c).

    Parameters
    ----------
    objective : {"sparse", "elbo"}
        `sparse` is the paper's: image loss + λ Σ |ĉ details| [+ β KL of the approximation to N(0, 1)], no density.
        `elbo` is a variational autoencoder whose prior is p(a_J) Π p(d_j | a_j), Laplace (`DetailPrior`).
    rate : int
        Values of the image (pixels · channels) per latent value; what is not kept, the decoder can only predict.
    select : {"subbands", "zone", "top_k"}
        What the rate keeps, k = values / rate of an image. `subbands`: the coarse ones. `zone`: the coefficients with
        the largest mean square over training images of one `shape` (see `Zone`; call `measure` before the first step),
        out of the subbands that hold at least 2 k. `top_k` (`sparse` only): the largest predicted coefficients of each
        image; gradients reach the kept ones alone, and which they are costs bits beyond their values
        (`LargestCoefficients.position_bits`).
    shape : tuple of int, optional
        Spatial shape of all images, for `zone`.
    widths, blocks : tuple of int, int
        Of the encoder; as many levels as widths.
    wavelet : str
        Family by PyWavelets' name, periodic at the border.
    noise, initial_noise
        See `NoiseScale`.
    refine : {"none", "convolution", "wavelet"}
        r: nothing, two convolutions at full resolution (the paper's), or a network in the wavelet domain, the encoder's
        twin.
    prior_width, prior_blocks : int
        Of the `DetailPrior`.
    loss, sparsity, kl_weight
        Image loss, λ and β of the `sparse` objective; `sparsity_kind` "kl" puts KL(N(ĉ, s²) ‖ N(0, 1)) on the details
        in place of |ĉ|.
    domain : {"image", "wavelet"}
        Where the `sparse` objective compares. For an orthonormal family and sizes that are multiples of 2^J, `mse` is
        the same in both (Parseval).

    Raises
    ------
    ConfigError
        If the transform has too few levels for the rate, or choices exclude one another.
    """

    def __init__(
        self,
        *,
        objective: Objective,
        rate: int = 1,
        select: Selection = "subbands",
        shape: tuple[int, ...] | None = None,
        channels: int = 1,
        dims: int = 2,
        classes: int = 0,
        widths: tuple[int, ...] = (32, 48, 64),
        blocks: int = 2,
        wavelet: str = "haar",
        noise: NoiseKind = "subband",
        initial_noise: float = 0.1,
        refine: Refinement = "wavelet",
        refine_widths: tuple[int, ...] | None = None,
        prior_width: int = 32,
        prior_blocks: int = 2,
        loss: GenerativeLossName = "mse",
        domain: Domain = "image",
        sparsity: float = 1e-3,
        sparsity_kind: Literal["l1", "kl"] = "l1",
        kl_weight: float = 0.0,
        likelihood: Likelihood = "gaussian",
        beta: float = 1.0,
        free_nats: float = 0.0,
    ) -> None:
        super().__init__(
            channels=channels, dims=dims, classes=classes, likelihood=likelihood, beta=beta, free_nats=free_nats
        )
        filter_bank(wavelet)  # ValueError now, not in the first step
        self.objective, self.levels, self.wavelet = objective, len(widths), wavelet
        if select == "top_k" and (objective == "elbo" or kl_weight or (sparsity and sparsity_kind == "kl")):
            raise ConfigError("select: top_k needs objective: sparse without a KL, for what is left out has no density")
        if domain == "wavelet" and loss == "bce":
            raise ConfigError("loss: bce needs domain: image, for coefficients do not lie in [0, 1]")
        self.rate, self.select, self.domain = rate, select, domain
        self.kept = kept_subbands({"subbands": rate, "zone": _at_hand(rate, dims), "top_k": 1}[select], dims)
        if self.kept.level > self.levels:
            raise ConfigError(f"a rate of {rate} needs {self.kept.level} levels, the transform has {self.levels}")
        self.zone: Zone | None = None
        if select == "zone":
            if shape is None:
                raise ConfigError("select: zone needs the one shape of all images")
            self.shape = shape
            self.finest = self.kept.level if self.kept.names else self.kept.level + 1
            multiple = 2 ** (self.finest - 1)
            grid = [(size + -size % 2**self.levels) // multiple for size in shape]
            self.zone = Zone(shape, (channels, *grid), channels * math.prod(shape) // rate)
        self.image_loss, self.sparsity, self.sparsity_kind, self.kl_weight = loss, sparsity, sparsity_kind, kl_weight
        self.encoder = CoefficientEncoder(channels, widths, blocks, dims, classes, wavelet)
        with_details = [level for level in range(1, self.levels + 1) if self.kept.indices(level, dims)]
        self.encoder.freeze_below(min(with_details, default=self.levels))
        self.noise = NoiseScale(noise, self.levels, dims, initial_noise)
        self.refinement: nn.Module | None = None
        if refine == "convolution":
            width = (refine_widths or (16,))[0]
            self.refinement = nn.Sequential(
                conv(dims, channels, width), nn.ReLU(), conv(dims, width, channels, zero=True)
            )
        elif refine == "wavelet":
            self.refinement = CoefficientEncoder(channels, refine_widths or widths, blocks, dims, classes, wavelet)
        self.refine = refine
        if objective == "elbo":
            self.prior = DetailPrior(channels, self.levels, dims, prior_width, prior_blocks, classes)
            self.prior.requires_grad_(bool(with_details))
            self.coarse_mean = nn.Parameter(torch.zeros(channels))
            self.coarse_log_scale = nn.Parameter(torch.full((channels,), self.levels * dims / 2 * math.log(2)))
        else:
            self.has_density = False
            self.log_sigma.requires_grad_(False)

    def encode(self, x: Tensor, label: Tensor | None = None) -> Posterior:
        """See `LatentModel.encode`; an image of any size is padded to a multiple of 2^J."""
        padded = pad_to_multiple(x, 2**self.levels, self.dims)
        coefficients = cast(Coefficients, self.encoder(padded, self._one_hot(label)))
        means = [coefficients.approximation]
        scales = [self.noise("a", self.levels).reshape(1)]
        for level, details in zip(range(self.levels, 0, -1), coefficients.details, strict=True):
            if kept := self.kept.indices(level, self.dims):
                means.append(details[:, kept].flatten(1, 2))
                s = self.noise("d", level).expand(-1, details.shape[1], self.channels, *([1] * self.dims))
                scales.append(s[:, kept].flatten(1, 2))
        shape = tuple(x.shape[2:])
        inside = self._largest(means, self.latent_values(shape)) if self.select == "top_k" else self._inside(shape)
        return Posterior(only(tuple(means), inside), tuple(scales), inside)

    def measure(self, images: Iterable[Tensor]) -> None:
        """See `LatentModel.measure`: choose the zone, if there is one."""
        if self.zone is not None:
            grid = tuple(self.zone.mask.shape[2:])
            self.zone.measure(crop_to(self._packed(image.float()), grid).square() for image in images)

    def latent_values(self, shape: tuple[int, ...]) -> int:
        """See `LatentModel.latent_values`; with `top_k` and `zone` the number of coefficients kept, at least 1."""
        if self.select == "subbands":
            return super().latent_values(shape)
        return max(1, self.channels * math.prod(shape) // self.rate)

    def decode(self, z: Latent, shape: tuple[int, ...], label: Tensor | None = None) -> Tensor:
        """See `LatentModel.decode`."""
        with torch.autocast(z[0].device.type, enabled=False):
            image = idwt(self.coefficients(z))
        if self.refine == "convolution" and self.refinement is not None:
            image = image + self.refinement(image).float()
        elif self.refinement is not None:
            refined = self.refinement(image, self._one_hot(label))
            with torch.autocast(z[0].device.type, enabled=False):
                image = idwt(refined)
        return crop_to(image, shape)

    def coefficients(self, z: Latent) -> Coefficients:
        """Return z as wavelet coefficients, zero where a subband is not kept."""
        z = only(z, self._inside())
        approximation, parts = z[0].float(), iter(z[1:])
        bands = 2**self.dims - 1
        shape = tuple(approximation.shape[2:])
        details, shapes = [], []
        for level in range(self.levels, 0, -1):
            stack = approximation.new_zeros((len(approximation), bands, self.channels, *shape))
            if kept := self.kept.indices(level, self.dims):
                stack[:, kept] = torch.unflatten(next(parts).float(), 1, (len(kept), self.channels))
            details.append(stack)
            shape = tuple(2 * size for size in shape)
            shapes.append(shape)
        axes = (tuple(range(self.dims)),) * self.levels
        return Coefficients(approximation, tuple(details), tuple(shapes), axes, self.wavelet)

    def latent(self, coefficients: Coefficients) -> Latent:
        """Undo `coefficients`; what is not kept is left out."""
        parts = [coefficients.approximation]
        for level, details in zip(range(self.levels, 0, -1), coefficients.details, strict=True):
            if kept := self.kept.indices(level, self.dims):
                parts.append(details[:, kept].flatten(1, 2))
        return only(tuple(parts), self._inside())

    def held(self) -> tuple[str, ...]:
        """Return the names of the subbands that are latent, coarse to fine."""
        names = subband_names(self.dims)
        found = [f"{names[0]}{self.levels}"]
        for level in range(self.levels, 0, -1):
            found += [f"{names[1 + k]}{level}" for k in self.kept.indices(level, self.dims)]
        return tuple(found)

    def divergence(self, posterior: Posterior, z: Latent, label: Tensor | None = None) -> Latent | None:
        """See `LatentModel.divergence`; closed form, given the coarser coefficients that were drawn."""
        if self.objective == "sparse":
            return None
        z = only(z, posterior.inside)
        mean, deviation = posterior.mean[0], posterior.scale[0]
        location, scale = self.coarse_density()
        ratio = deviation / scale
        coarse = gaussian_divergence((mean - location) / scale, ratio)
        terms = [coarse]
        for k, (location, scale) in enumerate(self._conditionals(z, label), start=1):
            terms.append(laplace_divergence(posterior.mean[k], posterior.scale[k], location, scale))
        return only(tuple(terms), posterior.inside)

    def log_prior(self, z: Latent, label: Tensor | None = None) -> Tensor:
        """See `LatentModel.log_prior`."""
        z = only(z, self._inside())  # what lies outside conditions nothing either
        terms = [gaussian_log_density(z[0], *self.coarse_density())]
        for part, (location, scale) in zip(z[1:], self._conditionals(z, label), strict=True):
            terms.append(laplace_log_density(part, location, scale))
        return torch.stack([per_image(term) for term in only(tuple(terms), self._inside())]).sum(0)

    def draw(
        self,
        count: int,
        shape: tuple[int, ...],
        generator: torch.Generator,
        label: Tensor | None = None,
        temperature: float = 1.0,
        coarse: Tensor | None = None,
    ) -> Latent:
        """See `LatentModel.draw`; `coarse` gives a_J, drawn by another prior, in place of the Gaussian."""
        device = self.log_sigma.device
        if coarse is None:
            location, scale = self.coarse_density()
            size = tuple(-(-n // 2**self.levels) for n in shape)
            noise = torch.randn((count, self.channels, *size), generator=generator, device=device)
            coarse = location + temperature * scale * noise
        inside = self._inside()
        z: Latent = only((coarse,), inside and inside[:1])
        while len(z) < self._parts():
            location, scale = next(itertools.islice(self._conditionals(z, label), len(z) - 1, None))
            drawn = (draw_laplace(location, scale, generator, temperature),)
            z = (*z, *only(drawn, inside and inside[len(z) : len(z) + 1]))
        return z

    def forward(self, measurement: Measurement, truth: Tensor | None = None) -> Estimate:
        """See `LatentModel.forward`."""
        if truth is None or self.objective == "elbo":
            return super().forward(measurement, truth)
        posterior = self.encode(truth, measurement.label)
        image = self.decode(posterior.sample(), tuple(truth.shape[2:]), measurement.label)
        terms = self._sparse_terms(posterior)
        penalty = torch.stack(list(terms.values())).sum() if terms else image.new_zeros(())
        loss = self._reconstruction(image, truth) + penalty
        return Estimate(image, penalty, {name: term.detach() for name, term in terms.items()}, loss=loss)

    def bound(
        self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None, *, free: bool = False
    ) -> Bound:
        """See `LatentModel.bound`; paper mode has none."""
        if not self.has_density:
            raise ValueError("the paper's objective defines no density, so there is no bound")
        return super().bound(x, label, generator, free=free)

    def log_scales(self) -> list[nn.Parameter]:
        """See `Restorer.log_scales`."""
        own = [self.noise.log_s] if self.noise.log_s.requires_grad else []
        if self.objective == "elbo":
            own += [self.prior.log_scale, self.coarse_log_scale]
        return super().log_scales() + own

    def scale_predictors(self) -> list[nn.Parameter]:
        """See `Restorer.scale_predictors`: the head of the prior, half of which are logarithms."""
        return list(self.prior.head.parameters()) if self.objective == "elbo" else []

    def scales(self) -> dict[str, float]:
        """Learned s of the subbands that are latent, and σ_x."""
        held = self.held()
        scales = {name: s for name, s in self.noise.by_subband().items() if name in held}
        return super().scales() | scales if self.has_density else scales

    def _inside(self, shape: tuple[int, ...] | None = None) -> Latent | None:
        """Masks of the zone, if there is one, shaped like the parts of z of an image (of spatial `shape`)."""
        if self.zone is None:
            return None
        mask = self.zone(self.zone.shape if shape is None else shape).float()
        if self.finest > self.levels:
            return (mask.bool(),)
        layout = dwt(torch.zeros_like(mask), self.levels - self.finest + 1, self.dims, self.wavelet, "periodization")
        masks = layout.unpack(mask)
        return (masks.approximation.bool(), *(each.flatten(1, 2).bool() for each in masks.details))

    def _parts(self) -> int:
        return 1 + sum(bool(self.kept.indices(level, self.dims)) for level in range(1, self.levels + 1))

    def _one_hot(self, label: Tensor | None) -> Tensor | None:
        if not self.classes or label is None:
            return None
        return F.one_hot(label, self.classes).float().reshape(len(label), self.classes, *([1] * self.dims))

    def coarse_density(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of p(a_J), broadcastable to it."""
        shape = (1, self.channels, *([1] * self.dims))
        return self.coarse_mean.reshape(shape), self.coarse_log_scale.exp().reshape(shape)

    def _conditionals(self, z: Latent, label: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield location and scale of p(d_j | a_j), from the coarsest level on, as far as z reaches and one further."""
        approximation = z[0].float()
        for k, level in enumerate(range(self.levels, 0, -1), start=1):
            kept = self.kept.indices(level, self.dims)
            if not kept:
                return
            density = (
                torch.unflatten(each, 1, (-1, self.channels)) for each in self.prior(approximation, level, label)
            )
            location, scale = (each[:, kept].flatten(1, 2) for each in density)
            yield location, scale
            if len(kept) < 2**self.dims - 1 or k >= len(z):
                return
            with torch.autocast(approximation.device.type, enabled=False):
                details = torch.unflatten(z[k].float(), 1, (len(kept), self.channels))
                approximation = synthesise(approximation, details, wavelet=self.wavelet)

    @staticmethod
    def _largest(means: list[Tensor], count: int) -> Latent:
        """Return masks, shaped like the parts, of the `count` largest magnitudes of each image."""
        values = torch.cat([mean.detach().flatten(1) for mean in means], dim=1).abs()
        chosen = torch.zeros_like(values, dtype=torch.bool).scatter_(1, values.topk(count, dim=1).indices, True)
        sizes = [mean[0].numel() for mean in means]
        parts = torch.split(chosen, sizes, dim=1)
        return tuple(part.reshape(mean.shape) for part, mean in zip(parts, means, strict=True))

    def _reconstruction(self, image: Tensor, truth: Tensor) -> Tensor:
        if self.domain == "wavelet":
            with torch.autocast(truth.device.type, enabled=False):
                image, truth = (self._packed(each.float()) for each in (image, truth))
        return LOSSES[self.image_loss](image, truth)

    def _packed(self, image: Tensor) -> Tensor:
        padded = pad_to_multiple(image, 2**self.levels, self.dims)
        return dwt(padded, self.levels, self.dims, self.wavelet, "periodization").pack()

    def _sparse_terms(self, posterior: Posterior) -> dict[str, Tensor]:
        """λ · mean |ĉ details|, or their divergence from N(0, 1), and β · divergence of the approximation; means."""
        values, inside = posterior.mean, posterior.inside
        if self.sparsity_kind == "l1":
            costs = tuple(mean.abs() for mean in values)
        else:
            costs = only(self._unit_divergence(posterior), inside)
        counts = [mean.numel() for mean in values]
        if self.zone is not None:
            counts = [int(mask.sum()) * len(values[0]) for mask in inside or ()]
        terms = {}
        if self.sparsity and (count := sum(counts[1:])):
            terms["sparsity"] = self.sparsity * torch.stack([cost.sum() for cost in costs[1:]]).sum() / count
        if self.kl_weight:
            coarse = only(self._unit_divergence(posterior), inside)[0]
            terms["kl"] = self.kl_weight * coarse.sum() / counts[0]
        return terms

    @staticmethod
    def _unit_divergence(posterior: Posterior) -> Latent:
        return tuple(
            gaussian_divergence(m, s.expand_as(m)) for m, s in zip(posterior.mean, posterior.scale, strict=True)
        )


def _at_hand(rate: int, dims: int) -> int:
    """Return the rate of the coarse levels that hold at least twice as many coefficients as `rate` keeps."""
    step: int = 2**dims
    at_hand: int = step ** int(math.log(max(rate / 2, 1), step) + 1e-9)
    return at_hand
