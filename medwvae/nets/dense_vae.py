"""The first VAE (Kingma and Welling 2014): a flat latent vector, for images of one size."""

import itertools
from typing import Unpack

from torch import Tensor, nn

from medwvae.errors import ConfigError, InputError
from medwvae.nets.blocks import crop_to, pad_to_multiple
from medwvae.nets.conv_bodies import conv_decoder, conv_encoder
from medwvae.nets.labels import LabelChannels
from medwvae.nets.latent import Latent, Posterior
from medwvae.nets.normal_prior import NormalPrior, Options, posterior_of


class DenseVAE(NormalPrior):
    """q(z | x) over a vector, by fully connected layers, with or without strided convolutions around them.

    Parameters
    ----------
    shape : tuple of int
        Spatial shape of every image: dense layers serve no other.
    latent : int
        D, the length of z.
    hidden : tuple of int
        Widths of the fully connected layers of the encoder; the decoder mirrors them. May be empty: then one linear
        layer leads to z and one back.
    widths : tuple of int
        Channels of the convolutional levels before the dense ones; empty for dense layers alone.
    blocks, stem : int
        Residual blocks of each convolutional level; halvings before the first, see `conv_bodies`.
    features : int
        Channels in which the convolutional part meets the dense one.
    embedding : int
        Channels of the label's embedding.
    **options
        See `LatentModel`.

    Raises
    ------
    ConfigError
        If `shape` does not have `dims` axes.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        latent: int,
        hidden: tuple[int, ...] = (1024,),
        widths: tuple[int, ...] = (),
        blocks: int = 1,
        stem: int = 1,
        features: int = 8,
        embedding: int = 8,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**options)
        if len(shape) != self.dims:
            raise ConfigError(f"a dense VAE of {self.dims} axes cannot be made for images of shape {shape}")
        self.shape, self.latent = tuple(shape), latent
        self.label_in, self.label_out = LabelChannels(self.classes, embedding), LabelChannels(self.classes, embedding)
        channels = self.channels
        self.multiple = 2 ** (len(widths) - 1 + stem) if widths else 1
        grid = tuple(-(-size // self.multiple) for size in shape)
        if widths:
            self.trunk: nn.Module = conv_encoder(self.dims, channels, features, widths, blocks, stem)
            self.head: nn.Module = conv_decoder(self.dims, features, channels, widths, blocks, stem)
            channels = features
        else:
            self.trunk = self.head = nn.Identity()
        self.unflatten = nn.Unflatten(1, (channels, *grid))
        values = channels
        for size in grid:
            values *= size
        self.encoder = _perceptron((values + self.label_in.added, *hidden, 2 * latent))
        self.decoder = _perceptron((latent + self.label_out.added, *reversed(hidden), values))

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See `NormalPrior`; InputError for another shape than the model's."""
        self._check(shape)
        return (self.latent,)

    def encode(self, x: Tensor, label: Tensor | None = None) -> Posterior:
        """See `LatentModel`; InputError for images of another shape."""
        self._check(tuple(x.shape[2:]))
        values = self.trunk(pad_to_multiple(x, self.multiple, self.dims)).flatten(1)
        return posterior_of(self.encoder(self.label_in(values, label)))

    def decode(self, z: Latent, shape: tuple[int, ...], label: Tensor | None = None) -> Tensor:
        """See `LatentModel`; InputError for images of another shape."""
        self._check(shape)
        return crop_to(self.answer(self.head(self.unflatten(self.decoder(self.label_out(z[0], label))))), shape)

    def _check(self, shape: tuple[int, ...]) -> None:
        if tuple(shape) != self.shape:
            raise InputError(
                f"a dense VAE serves the one image shape it was made for, {self.shape}, not {tuple(shape)}; "
                "crop or pad the images, or use a convolutional model"
            )


def _perceptron(sizes: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.SiLU()]
    return nn.Sequential(*layers[:-1])
