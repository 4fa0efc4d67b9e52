"""The conventional rival in generation: a convolutional VAE with a spatial latent."""

from typing import Unpack

from torch import Tensor

from medwvae.errors import ConfigError
from medwvae.nets.blocks import crop_to, pad_to_multiple
from medwvae.nets.conv_bodies import conv_decoder, conv_encoder
from medwvae.nets.labels import LabelChannels
from medwvae.nets.latent import Latent, Posterior
from medwvae.nets.normal_prior import NormalPrior, Options, posterior_of


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
    embedding : int
        Channels of the label's embedding.
    **options
        See `LatentModel`.

    Raises
    ------
    ConfigError
        If there are more levels than `downsamplings` serve.
    """

    def __init__(
        self,
        *,
        widths: tuple[int, ...] = (48, 96),
        blocks: int = 2,
        latent: int = 2,
        downsamplings: int = 2,
        embedding: int = 8,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**options)
        stem = downsamplings - (len(widths) - 1)
        if stem < 0 or not widths:
            raise ConfigError(f"{len(widths)} widths need {len(widths) - 1} downsamplings or more, not {downsamplings}")
        self.latent, self.multiple = latent, 2**downsamplings
        self.label_in, self.label_out = LabelChannels(self.classes, embedding), LabelChannels(self.classes, embedding)
        inputs, below = self.channels + self.label_in.added, latent + self.label_out.added
        self.encoder = conv_encoder(self.dims, inputs, 2 * latent, widths, blocks, stem)
        self.decoder = conv_decoder(self.dims, below, self.channels, widths, blocks, stem)

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See `NormalPrior`."""
        return (self.latent, *(-(-size // self.multiple) for size in shape))

    def encode(self, x: Tensor, label: Tensor | None = None) -> Posterior:
        """See `LatentModel`."""
        return posterior_of(self.encoder(self.label_in(pad_to_multiple(x, self.multiple, self.dims), label)))

    def decode(self, z: Latent, shape: tuple[int, ...], label: Tensor | None = None) -> Tensor:
        """See `LatentModel`."""
        return crop_to(self.answer(self.decoder(self.label_out(z[0], label))), shape)
