"""The latent of a trained Wavelet-VAE as wavelet coefficients: read, edited, decoded, mapped.

The decoder is not the inverse transform alone: its refinement looks around each voxel. An edit of the latent therefore
has no border that it keeps to, unlike `medwvae.latents.edit.edit`, and its answer is the model's image of what it saw.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from medwvae.latents.edit import Gains, acting, edited
from medwvae.latents.heatmap import Heatmaps, heatmaps
from medwvae.nets.blocks import crop_to, pad_to_multiple
from medwvae.nets.diffusion_prior import DiffusionPrior
from medwvae.nets.latent import LatentModel
from medwvae.nets.wavelet_latent import WaveletLatentVAE
from medwvae.wavelets import Coefficients


def wavelet_vae(model: LatentModel) -> WaveletLatentVAE:
    """Return the Wavelet-VAE that a model is, without the prior that was fitted to its latent.

    Raises
    ------
    ValueError
        If its latent is no set of wavelet coefficients.
    """
    inner = model.model if isinstance(model, DiffusionPrior) else model
    if not isinstance(inner, WaveletLatentVAE):
        raise ValueError("this model's latent is no set of wavelet coefficients; use a Wavelet-VAE (`kind: wavelet`)")
    return inner


@torch.no_grad()
def posterior_coefficients(model: LatentModel, x: Tensor, label: Tensor | None = None) -> Coefficients:
    """Return the posterior mean of images (B, C, *spatial) as coefficients, zero where the latent holds nothing.

    Raises
    ------
    ValueError
        As `wavelet_vae`.
    """
    inner = wavelet_vae(model)
    return inner.coefficients(inner.encode(x, label).mean)


@torch.no_grad()
def decoded(
    model: LatentModel, coefficients: Coefficients, shape: tuple[int, ...], label: Tensor | None = None
) -> Tensor:
    """Return the images (B, C, *shape) that coefficients decode to; what the latent cannot hold is not read.

    Raises
    ------
    ValueError
        As `wavelet_vae`.
    """
    inner = wavelet_vae(model)
    return inner.decode(inner.latent(coefficients), shape, label)


def edit_latent(
    model: LatentModel,
    x: Tensor,
    gains: Gains,
    mask: Tensor | None = None,
    *,
    inside: Gains | None = None,
    protect: bool = False,
    label: Tensor | None = None,
) -> Tensor:
    """Encode images, multiply the coefficients of their posterior mean by gains, decode.

    Without a gain other than 1 the answer is the reconstruction, to the last bit.

    Parameters
    ----------
    x : Tensor
        (B, C, *spatial), network units.
    gains, mask, inside, protect
        As of `medwvae.latents.edit.edit`; the levels are the model's own. Which coefficients lie in the mask is exact,
        what the decoder makes of them is not.
    label : Tensor, optional
        Class of each image, int64 (B,).

    Raises
    ------
    ValueError
        As `wavelet_vae` and `edit`, or if a gain names nothing that the latent holds.
    """
    coefficients, shape = posterior_coefficients(model, x, label), tuple(x.shape[2:])
    held = wavelet_vae(model).held()
    for name, bands in acting(coefficients, {**gains, **(inside or {})}).items():
        if not set(bands) & set(held):
            raise ValueError(f"the latent of this model holds nothing of {name}; it holds {', '.join(held)}")
    if mask is not None:
        wide = mask[None, None] if mask.ndim == len(shape) else mask
        padded = pad_to_multiple(wide.float(), 2**coefficients.levels, len(shape))  # as the encoder pads the image
        mask = padded.to(mask.dtype)
    return decoded(model, edited(coefficients, gains, mask, inside=inside, protect=protect), shape, label)


def latent_maps(model: LatentModel, x: Tensor, label: Tensor | None = None) -> Heatmaps:
    """Return `heatmaps` of the details that the latent of images holds, levels without any left out.

    Raises
    ------
    ValueError
        As `wavelet_vae`.
    """
    coefficients, held = posterior_coefficients(model, x, label), wavelet_vae(model).held()
    found: dict[int, Mapping[str, Tensor]] = {}
    for level, bands in heatmaps(coefficients).items():
        own = {name: crop_to(one, tuple(x.shape[2:])) for name, one in bands.items() if f"{name}{level}" in held}
        if own:
            found[level] = own
    return found
