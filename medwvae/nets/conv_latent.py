"""The conventional rival in generation: a convolutional VAE with a spatial latent."""

import math
from collections.abc import Iterable
from typing import Unpack

from torch import Tensor

from medwvae.errors import ConfigError
from medwvae.nets.blocks import crop_to, pad_to_multiple, space_to_depth
from medwvae.nets.conv_bodies import conv_decoder, conv_encoder
from medwvae.nets.labels import LabelChannels
from medwvae.nets.latent import Latent, Posterior, only
from medwvae.nets.normal_prior import NormalPrior, Options, posterior_of
from medwvae.nets.zones import Zone


class ConvLatent(NormalPrior):
    """Strided encoder to q(z | x) on a grid, decoder to the image; of any image size (padded by replication).

    Parameters
    ----------
    widths : tuple of int
        Channels of each level, fine to coarse.
    blocks : int
        Residual blocks of a level.
    latent : int
        Channels of z; `channels_for_rate` gives those of a rate.
    downsamplings : int
        Halvings between image and z. Those that exceed the levels after the first are made at the image itself, by
        moving blocks of samples to channels.
    zone : int
        One of every `zone` positions of the grid holds a latent (of `latent` channels), those where training images
        have the most energy; 1 = all. See `Zone`; call `measure` before the first step.
    shape : tuple of int, optional
        Spatial shape of all images, for a zone.
    embedding : int
        Channels of the label's embedding.
    **options
        See `LatentModel`.

    Raises
    ------
    ConfigError
        If there are more levels than `downsamplings` serve, or the positions do not divide by `zone`.
    """

    def __init__(
        self,
        *,
        widths: tuple[int, ...] = (48, 96),
        blocks: int = 2,
        latent: int = 2,
        downsamplings: int = 2,
        zone: int = 1,
        shape: tuple[int, ...] | None = None,
        embedding: int = 8,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**options)
        stem = downsamplings - (len(widths) - 1)
        if stem < 0 or not widths:
            raise ConfigError(f"{len(widths)} widths need {len(widths) - 1} downsamplings or more, not {downsamplings}")
        self.latent, self.multiple = latent, 2**downsamplings
        self.zone: Zone | None = None
        if zone > 1:
            if shape is None or math.prod(self._grid(shape)) % zone:
                raise ConfigError(
                    f"a zone of one in {zone} positions needs images of one shape with so many, not {shape}"
                )
            self.shape, grid = shape, self._grid(shape)
            self.zone = Zone(shape, (1, *grid), math.prod(grid) // zone)
        self.label_in, self.label_out = LabelChannels(self.classes, embedding), LabelChannels(self.classes, embedding)
        inputs, below = self.channels + self.label_in.added, latent + self.label_out.added
        self.encoder = conv_encoder(self.dims, inputs, 2 * latent, widths, blocks, stem)
        self.decoder = conv_decoder(self.dims, below, self.channels, widths, blocks, stem)

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See `NormalPrior`."""
        return (self.latent, *self._grid(shape))

    def latent_values(self, shape: tuple[int, ...]) -> int:
        """See `LatentModel`."""
        return super().latent_values(shape) if self.zone is None else self.latent * self.zone.count

    def measure(self, images: Iterable[Tensor]) -> None:
        """See `LatentModel`: choose the zone, if there is one."""
        if self.zone is not None:
            self.zone.measure(self._energy(image) for image in images)

    def encode(self, x: Tensor, label: Tensor | None = None) -> Posterior:
        """See `LatentModel`."""
        posterior = posterior_of(self.encoder(self.label_in(pad_to_multiple(x, self.multiple, self.dims), label)))
        if self.zone is None:
            return posterior
        inside = (self.zone(tuple(x.shape[2:])),)
        return Posterior(only(posterior.mean, inside), posterior.scale, inside)

    def inside(self) -> Latent | None:
        """See `NormalPrior`."""
        return None if self.zone is None else (self.zone.mask,)

    def decode(self, z: Latent, shape: tuple[int, ...], label: Tensor | None = None) -> Tensor:
        """See `LatentModel`."""
        z = only(z, self.inside())
        return crop_to(self.answer(self.decoder(self.label_out(z[0], label))), shape)

    def _grid(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(-(-size // self.multiple) for size in shape)

    def _energy(self, image: Tensor) -> Tensor:
        """Mean square of the block of each position, (B, 1, *grid)."""
        padded = pad_to_multiple(image.float(), self.multiple, self.dims)
        blocks = space_to_depth(padded, (self.multiple,) * self.dims)
        return blocks.square().mean(1, keepdim=True)
