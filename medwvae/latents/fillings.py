"""A model's filling of missing pixels beside those that know no anatomy, and how far each is from the truth."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from skimage.restoration import inpaint_biharmonic
from torch import Tensor

from medwvae.latents.impute import impute, impute_by_gradient, mean_filled
from medwvae.nets.latent import LatentModel

Method = Literal["map", "chain"]
MEAN, BIHARMONIC = "mean", "biharmonic"


@dataclass(frozen=True)
class Fillings:
    """Images (B, C, *spatial) with their missing pixels filled in.

    Attributes
    ----------
    images : mapping of str to Tensor
        The known pixels' mean, the model's answer by its name, and of 2D images the biharmonic surface.
    rmse : mapping of str to float
        Root mean square error of each over the missing pixels of all images, network units.
    deviation : Tensor or None
        The model's own standard deviation; of the chain only.
    """

    images: Mapping[str, Tensor]
    rmse: Mapping[str, float]
    deviation: Tensor | None


def filled(
    model: LatentModel,
    name: str,
    truth: Tensor,
    known: Tensor,
    *,
    method: Method = "map",
    sweeps: int = 100,
    seed: int = 0,
    label: Tensor | None = None,
) -> Fillings:
    """Take the unknown pixels out of images and fill them in.

    Parameters
    ----------
    name : str
        What the model is called among the fillings.
    truth : Tensor
        (B, C, *spatial), network units.
    known : Tensor
        bool, (B, 1, *spatial).
    method : {"map", "chain"}
        The latent of largest density (`impute_by_gradient`), or from there on the Markov chain (`impute`), which
        drifts: see docs/latents.md. A model without a density knows the chain only, from the known pixels' mean.
    sweeps : int
        Steps of either; the chain leaves the first half out.
    label : Tensor, optional
        Class of each image, int64 (B,).

    Raises
    ------
    ValueError
        If there is no such method, or as `impute` and `impute_by_gradient`.
    """
    if method not in get_args(Method):
        raise ValueError(f"the method is {method}, expected chain or map")
    start = None
    if method == "map" or model.has_density:
        answer = impute_by_gradient(model, truth, known, steps=sweeps, label=label)
        start = answer.image
    if method == "chain":
        answer = impute(model, truth, known, sweeps=sweeps, discard=sweeps // 2, seed=seed, label=label, start=start)
    images = {MEAN: mean_filled(truth, known), name: answer.image}
    if model.dims == 2:
        images[BIHARMONIC] = biharmonic(truth, known)
    missing = ~known.expand(truth.shape)
    rmse = {each: float((image - truth)[missing].square().mean().sqrt()) for each, image in images.items()}
    return Fillings(images, rmse, answer.deviation)


def biharmonic(images: Tensor, known: Tensor) -> Tensor:
    """Fill each image (B, C, H, W) by the smoothest surface (Damelin and Hoang 2018), as scikit-image does."""
    surfaces = [
        inpaint_biharmonic(np.where(k, x, 0).astype(np.float64), ~k, channel_axis=0)
        for x, k in zip(images.numpy(), known[:, 0].numpy(), strict=True)
    ]
    return torch.from_numpy(np.stack(surfaces).astype(np.float32))
