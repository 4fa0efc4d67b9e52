"""The convolutional encoder and decoder that all conventional VAEs share, for restoration and for generation."""

import itertools

from torch import nn

from medwvae.nets.blocks import DepthToSpace, SpaceToDepth, conv, residuals


def conv_encoder(
    dims: int, inputs: int, outputs: int, widths: tuple[int, ...], blocks: int, stem: int = 0
) -> nn.Module:
    """Return (B, inputs, *spatial) → (B, outputs, *spatial / 2^(stem + levels − 1)); sizes are multiples of that.

    Parameters
    ----------
    widths : tuple of int
        Channels of each level; every level after the first halves the resolution by a strided convolution.
    blocks : int
        Residual blocks of a level.
    stem : int
        Halvings before the first convolution, by moving blocks of samples to channels (Shi et al. 2016): each divides
        the cost of the first level by 2^dims.
    """
    factors = (2**stem,) * dims
    layers: list[nn.Module] = [SpaceToDepth(factors)] if stem else []
    layers += [conv(dims, inputs * 2 ** (stem * dims), widths[0]), residuals(dims, widths[0], blocks)]
    for fine, coarse in itertools.pairwise(widths):
        layers += [conv(dims, fine, coarse, stride=2), residuals(dims, coarse, blocks)]
    return nn.Sequential(*layers, conv(dims, widths[-1], outputs, kernel=1))


def conv_decoder(
    dims: int, inputs: int, outputs: int, widths: tuple[int, ...], blocks: int, stem: int = 0
) -> nn.Module:
    """Return the mirror image of `conv_encoder`: (B, inputs, *grid) → (B, outputs, *grid · 2^(stem + levels − 1))."""
    layers: list[nn.Module] = [conv(dims, inputs, widths[-1])]
    for coarse, fine in itertools.pairwise(reversed(widths)):
        layers += [residuals(dims, coarse, blocks), nn.Upsample(scale_factor=2), conv(dims, coarse, fine), nn.ReLU()]
    factors = (2**stem,) * dims
    layers += [residuals(dims, widths[0], blocks), conv(dims, widths[0], outputs * 2 ** (stem * dims))]
    return nn.Sequential(*layers, *([DepthToSpace(factors)] if stem else []))
