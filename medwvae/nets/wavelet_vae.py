"""The Wavelet-VAE that restores: it corrects the wavelet coefficients of the measurement's own image.

Unrolled with exact data consistency; docs/model.md. The generative models are in `medwvae.nets.wavelet_latent`.
"""

from functools import partial
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from medwvae.nets.blocks import crop_to, pad_to_multiple
from medwvae.nets.noise_scale import NoiseKind, NoiseScale
from medwvae.nets.posterior import Posterior
from medwvae.nets.push_pull import push_pull
from medwvae.nets.restorer import Estimate, Restorer, channels_beside
from medwvae.nets.restoring_encoder import RestoringEncoder
from medwvae.operators import Measurement
from medwvae.wavelets import Coefficients, dwt, idwt


class Given(NamedTuple):
    """What a round reads."""

    image: Tensor
    condition: Tensor | None
    beside: Tensor | None
    change: Tensor | None = None
    """By agreement with the data, of what the round before had decoded."""
    features: list[Tensor] | None = None
    """Of the round before."""


class WaveletVAE(Restorer):
    """Wavelet-VAE for one 2D (or 3D) image of 1 (real) or 2 (complex) channels.

    Parameters
    ----------
    conditions : int
        How many of `Measurement.conditions` the encoder reads, the first ones (1 for the noise level of denoising).
    rounds : int
        K: rounds of [encode, inverse transform, data consistency]. More than one pays only with known samples. From the
        second on they read, beside the image, the features of the round before and where the data contradicted it.
    shared : bool
        Whether the rounds share one encoder.
    positivity : int
        Alternating projections before the first round (POCS: Haacke, Lindskog and Lin 1991): onto real, non-negative
        images, as demodulated tissue is, and onto the known samples. They cost no training.
    noise, initial_noise
        Sharing and start of the scale s of q(c | y) = N(ĉ, s²), see `NoiseScale`; no noise is drawn. With `coefficient`
        the last round predicts a factor for every coefficient, on top of its subband's s.
    scale_weight : float
        Weight of the Gaussian negative log-likelihood that fits s to the residual coefficients. The mean ĉ and the
        features are detached there, so s is fitted without bending the restoration.
    fine : int
        Channels of a level of features at the image's own resolution; 0 for none.
    slice_levels : int, optional
        Levels along the first axis of volumes with thick slices, fewer than in plane; see `axes_of_levels`.
    neighbours : int
        Slices on either side whose starts the encoder reads (`Measurement.neighbours`), in every round.
    mask : bool
        Whether it reads which pixels are known. Lost ones are then filled smoothly before the first round
        (`push_pull`), for the edges of their zeros would fill every level; neighbours have lost the same ones.
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
        noise: NoiseKind | Literal["coefficient"] = "subband",
        initial_noise: float = 0.1,
        scale_weight: float = 1e-3,
        fine: int = 0,
        slice_levels: int | None = None,
        neighbours: int = 0,
        mask: bool = False,
    ) -> None:
        super().__init__()
        self.neighbours, self.mask = neighbours, mask
        self.dims, self.levels, self.scale_weight = dims, len(widths), scale_weight
        self.conditions, self.positivity, self.rounds, self.shared = conditions, positivity, rounds, shared
        after_another = [rounds > 1 and (shared or k > 0) for k in range(1 if shared else rounds)]
        self.encoders = nn.ModuleList(
            RestoringEncoder(
                channels,
                widths,
                blocks,
                dims,
                conditions,
                slice_levels=slice_levels,
                beside=channels_beside(channels, neighbours, mask) + (channels if follows else 0),
                fine=fine,
                follows=follows,
            )
            for follows in after_another
        )
        shared_by: NoiseKind = "subband" if noise == "coefficient" else noise
        self.noise = NoiseScale(shared_by, self.levels, dims, initial_noise, slice_levels)
        self.per_axis = tuple(sum(axis in axes for axes in self.noise.axes) for axis in range(dims))
        if noise == "coefficient":  # last of all, so that every other weight starts as without them
            cast(RestoringEncoder, self.encoders[-1]).add_scale_heads(conditions)

    def alignment(self) -> tuple[int, ...]:
        """See `Restorer.alignment`."""
        return tuple(2**own for own in self.per_axis)

    def forward(self, measurement: Measurement, truth: Tensor | None = None) -> Estimate:
        """Restore a batch; see `Restorer.forward`."""
        given = self._until_last(measurement)
        coefficients, features = self._encode(given, self.rounds - 1)
        image = self._answer(measurement, coefficients)
        if truth is None:
            return Estimate(image, image.new_zeros(()), {})
        penalty = self._scale_term(image, truth, self._local(coefficients, features, given.condition))
        return Estimate(image, penalty, {"scale": penalty.detach()})

    @property
    def uncertain(self) -> bool:
        """See `Restorer.uncertain`."""
        return True

    @torch.no_grad()
    def posterior(self, measurement: Measurement) -> Posterior:
        """Return q(c | y) of the last round; its draws agree with the data as the answer does."""
        given = self._until_last(measurement)
        coefficients, features = self._encode(given, self.rounds - 1)
        scales = self._local(coefficients, features, given.condition).map_stacked(
            lambda kind, level, log: self.noise(kind, level) * log.exp()
        )
        answer = self._answer(measurement, coefficients)
        # Data consistency is affine: a difference of answers agrees with no signal, which few steps see to.
        deviation = partial(self._answer, measurement.silent())
        free = measurement.local and measurement.start.shape[1] == 1
        return Posterior(answer, coefficients, scales, deviation, free)

    def _until_last(self, measurement: Measurement) -> Given:
        """Return what the last round reads."""
        x = measurement.start
        for _ in range(self.positivity):
            x = measurement.project(torch.cat((x[:, :1].clamp(min=0), torch.zeros_like(x[:, 1:])), dim=1))
        x, beside = self._filled(x, measurement)
        condition = measurement.conditions()[:, : self.conditions] if self.conditions else None
        # Rounds that share an encoder read as much in the first, when there is no change yet.
        given = Given(x, condition, beside, torch.zeros_like(x) if self.shared and self.rounds > 1 else None)
        for k in range(self.rounds - 1):
            coefficients, features = self._encode(given, k)
            decoded = self._decode(measurement, coefficients)
            image = measurement.project(decoded)
            given = given._replace(image=image, change=image - decoded, features=features)
        return given

    def _filled(self, x: Tensor, measurement: Measurement) -> tuple[Tensor, Tensor | None]:
        """Return an image and, padded once for all rounds, what stands beside it; lost pixels of both are filled."""
        beside, known = measurement.beside(mask=self.mask), measurement.known if self.mask else None
        if beside is None:
            return x, None
        beside = self._padded(beside)
        if known is None:
            return x, beside
        images, known = torch.cat((self._padded(x), beside[:, :-1]), dim=1), beside[:, -1:]
        x, neighbours = push_pull(images, known, self.noise.axes).tensor_split([x.shape[1]], dim=1)
        return x, torch.cat((neighbours, known), dim=1)

    def _encode(self, given: Given, k: int) -> tuple[Coefficients, list[Tensor]]:
        """Return ĉ of round k, and the features that it was read from."""
        read = [self._padded(part) for part in (given.image, given.beside, given.change) if part is not None]
        x = torch.cat(read, dim=1)
        encoder = self.encoders[k % len(self.encoders)]
        return cast(tuple[Coefficients, list[Tensor]], encoder(x, given.condition, given.features))

    def _local(self, coefficients: Coefficients, features: list[Tensor], condition: Tensor | None) -> Coefficients:
        """Return the factors of the last round's scales, as logarithms."""
        return cast(RestoringEncoder, self.encoders[-1]).local_log_scales(coefficients, features, condition)

    def _decode(self, measurement: Measurement, coefficients: Coefficients) -> Tensor:
        """Return W⁻¹ĉ, cropped to the image."""
        return crop_to(idwt(coefficients), tuple(measurement.start.shape[2:]))

    def _answer(self, measurement: Measurement, coefficients: Coefficients) -> Tensor:
        return measurement.project(self._decode(measurement, coefficients))

    def _padded(self, x: Tensor) -> Tensor:
        return pad_to_multiple(x, self.alignment(), self.dims)

    def scales(self) -> dict[str, float]:
        """Learned s by subband."""
        return self.noise.by_subband()

    def log_scales(self) -> list[nn.Parameter]:
        """See `Restorer.log_scales`."""
        return [self.noise.log_s]

    def scale_predictors(self) -> list[nn.Parameter]:
        """See `Restorer.scale_predictors`."""
        heads = cast(RestoringEncoder, self.encoders[-1]).scale_heads
        return [] if heads is None else list(heads.parameters())

    def _scale_term(self, image: Tensor, truth: Tensor, local: Coefficients) -> Tensor:
        """`scale_weight` × Gaussian NLL of the residual coefficients under s, their mean (up to ½ log 2π)."""
        residual = dwt(pad_to_multiple(truth - image.detach(), self.alignment(), self.dims), self.per_axis, self.dims)
        total, count = image.new_zeros(()), 0
        parts = [("a", residual.levels, residual.approximation, local.approximation)]
        for i, (d, log) in enumerate(zip(residual.details, local.details, strict=True)):
            parts.append(("d", residual.levels - i, d, log))
        for kind, level, r, log in parts:
            log_s = self.noise(kind, level).log() + log
            total = total + ((r * (-log_s).exp()).square() / 2 + log_s).sum()
            count += r.numel()
        return self.scale_weight * total / count
