"""The strong conventional rival: MONAI's AutoencoderKL (Rombach et al. 2022; Pinaya et al. 2022)."""

from typing import Unpack

import torch
from monai.networks.nets.autoencoderkl import AutoencoderKL as MonaiAutoencoderKL
from torch import Tensor

from medwvae.errors import ConfigError
from medwvae.nets.blocks import conv, crop_to, pad_to_multiple
from medwvae.nets.labels import LabelChannels
from medwvae.nets.latent import Latent, Posterior
from medwvae.nets.normal_prior import NormalPrior, Options, posterior_of


class AutoencoderKL(NormalPrior):
    """MONAI's AutoencoderKL, trained on the bound like every other model here, of any image size.

    The adversarial and the perceptual loss of Rombach et al. (2022) are left out: they change what is optimised, would
    serve every model alike, and bits per voxel would lose their meaning.

    Parameters
    ----------
    widths : tuple of int
        Channels of each level; every level after the first halves the resolution. Multiples of `groups`.
    blocks : int
        Residual blocks of a level (the decoder has as many).
    latent : int
        Channels of z, at 1 / 2^(levels − 1) of the resolution; `channels_for_rate` gives those of a rate.
    groups : int
        Groups of the group normalisation.
    attention : bool
        Attention at the coarsest level, whose memory grows with the square of its positions.
    embedding : int
        Channels of the label's embedding.
    **options
        See `LatentModel`.

    Raises
    ------
    ConfigError
        If the widths are no multiples of `groups`.
    """

    def __init__(
        self,
        *,
        widths: tuple[int, ...] = (16, 32, 64),
        blocks: int = 1,
        latent: int = 2,
        groups: int = 8,
        attention: bool = False,
        embedding: int = 8,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**options)
        if any(width % groups for width in widths):
            raise ConfigError(f"the widths {widths} of an AutoencoderKL must be multiples of its {groups} groups")
        self.latent, self.multiple = latent, 2 ** (len(widths) - 1)
        self.label_in, self.label_out = LabelChannels(self.classes, embedding), LabelChannels(self.classes, embedding)
        self.body = MonaiAutoencoderKL(
            spatial_dims=self.dims,
            in_channels=self.channels + self.label_in.added,
            out_channels=self.channels,
            channels=widths,
            num_res_blocks=blocks,
            attention_levels=(False,) * len(widths),
            latent_channels=latent,
            norm_num_groups=groups,
            with_encoder_nonlocal_attn=attention,
            with_decoder_nonlocal_attn=attention,
        )
        if self.label_out.added:
            self.body.decoder.blocks[0] = conv(self.dims, latent + self.label_out.added, widths[-1])

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See `NormalPrior`."""
        return (self.latent, *(-(-size // self.multiple) for size in shape))

    def encode(self, x: Tensor, label: Tensor | None = None) -> Posterior:
        """See `LatentModel`."""
        features = self.body.encoder(self.label_in(pad_to_multiple(x, self.multiple, self.dims), label))
        # Not MONAI's own `encode`: under autocast that would take the exponential in half precision.
        return posterior_of(torch.cat((self.body.quant_conv_mu(features), self.body.quant_conv_log_sigma(features)), 1))

    def decode(self, z: Latent, shape: tuple[int, ...], label: Tensor | None = None) -> Tensor:
        """See `LatentModel`."""
        return crop_to(self.answer(self.body.decoder(self.label_out(self.body.post_quant_conv(z[0]), label))), shape)
