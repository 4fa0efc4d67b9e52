"""Walks through a latent from one image to another, and how smooth they are."""

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medwvae.metrics.similarity import ssim
from medwvae.nets.latent import Latent, LatentModel

WalkKind = Literal["linear", "spherical"]


@dataclass(frozen=True)
class Smoothness:
    """How even and how direct a walk of n images x_0, ..., x_{n−1} is, and how near it keeps to what the model knows.

    Beside them stand the same numbers of the cross-fade, the pixelwise mean of the two ends. It is as smooth as a walk
    can be and shows two ghosts: a low ratio and variation alone are no merit.

    Attributes
    ----------
    rmse, dissimilarity : array (n − 1,)
        Distance of each image to the next: root mean square error in network units, and 1 − SSIM.
    rmse_variation, dissimilarity_variation : float
        Standard deviation of these distances over their mean: 0 for even steps.
    path_ratio : float
        Sum of the steps' RMSE over the RMSE between the ends: 1 for the straight line, never less. It plays the part of
        the perceptual path length (Karras, Laine and Aila 2019), for one walk and without a network that perceives.
    residual : array (n,)
        RMSE between x_t and its own reconstruction, decode(encode(x_t)): large where the walk has left what the
        model was trained on. A model that copies any image has a small residual everywhere: compare `strangeness`.
    strangeness : float
        Mean residual between the ends over that at the ends.
    crossfade_residual : array (n,)
        The same residual of the cross-fade.
    """

    rmse: NDArray[np.float64]
    dissimilarity: NDArray[np.float64]
    rmse_variation: float
    dissimilarity_variation: float
    path_ratio: float
    residual: NDArray[np.float64]
    strangeness: float
    crossfade_residual: NDArray[np.float64]

    def summary(self) -> dict[str, float]:
        """Return the single numbers, for a table."""
        return {
            "path_ratio": self.path_ratio,
            "rmse_variation": self.rmse_variation,
            "dissimilarity_variation": self.dissimilarity_variation,
            "strangeness": self.strangeness,
            "crossfade_strangeness": _strangeness(self.crossfade_residual),
        }


@torch.no_grad()
def walk(
    model: LatentModel,
    first: Tensor,
    last: Tensor,
    *,
    steps: int = 9,
    kind: WalkKind = "spherical",
    label: Tensor | None = None,
) -> Tensor:
    """Decode the points between the posterior means of two images.

    Parameters
    ----------
    first, last : Tensor
        (1, C, *spatial) each.
    steps : int
        Number n of images, the ends' reconstructions included.
    kind : {"linear", "spherical"}
        `spherical` keeps to the shell on which a Gaussian prior has its mass (White 2016); see `between`.
    label : Tensor, optional
        Class of both, int64 (1,).

    Returns
    -------
    Tensor
        (n, C, *spatial), network units.

    Raises
    ------
    ValueError
        If the images differ in shape, are not single, or there are fewer than 2 steps.
    """
    if first.shape != last.shape or len(first) != 1:
        raise ValueError(
            f"need two single images (1, C, *spatial) of one shape, got {tuple(first.shape)} and {tuple(last.shape)}"
        )
    if steps < 2:
        raise ValueError(f"a walk has at least its 2 ends, got {steps} steps")
    a, b = model.encode(first, label).mean, model.encode(last, label).mean
    shape = tuple(first.shape[2:])
    points = torch.linspace(0, 1, steps, dtype=torch.float64)
    return torch.cat([model.decode(between(a, b, float(t), kind), shape, label).float() for t in points])


def between(a: Latent, b: Latent, t: float, kind: WalkKind = "spherical") -> Latent:
    """Return the latent at t in [0, 1] between two of one image each: a at 0, b at 1.

    `spherical` turns the whole vector, all parts together: sin((1 − t)ω) a + sin(tω) b over sin ω, where ω is the angle
    between a and b (Shoemake 1985). Where they are parallel, opposite or zero there is no such turn: it is linear.
    """
    weights = (1 - t, t)
    if kind == "spherical":
        x, y = (torch.cat([part.double().flatten() for part in z]) for z in (a, b))
        norms = float(x.norm() * y.norm())
        angle = float(np.arccos(np.clip(float(x @ y) / norms, -1, 1))) if norms else 0.0
        if np.sin(angle) > 1e-6:
            weights = (float(np.sin((1 - t) * angle) / np.sin(angle)), float(np.sin(t * angle) / np.sin(angle)))
    return tuple(weights[0] * p + weights[1] * q for p, q in zip(a, b, strict=True))


@torch.no_grad()
def smoothness(
    model: LatentModel, images: Tensor, *, data_range: float, label: Tensor | None = None, batch: int = 32
) -> Smoothness:
    """Measure a walk; any model's, by the same rule.

    Parameters
    ----------
    images : Tensor
        (n, C, *spatial), n ≥ 3, at least 11 voxels along each axis (the window of the SSIM).
    data_range : float
        Range of the SSIM, network units.
    label : Tensor, optional
        Class of all, int64 (1,).

    Raises
    ------
    ValueError
        If there are fewer than 3 images, or the SSIM cannot compare them.
    """
    if len(images) < 3:
        raise ValueError(f"a walk's smoothness needs at least 3 images, got {len(images)}")
    walked = images.cpu().double().numpy()
    steps = list(itertools.pairwise(walked))
    rmse = np.array([_rmse(x, y) for x, y in steps])
    dims: Literal[2, 3] = 3 if model.dims == 3 else 2
    dissimilarity = np.array([1 - ssim(x, y, data_range=data_range, kind="gaussian", dims=dims) for x, y in steps])
    t = torch.linspace(0, 1, len(images)).reshape(-1, *[1] * (images.ndim - 1)).to(images)
    residual = _residual(model, images, label, batch)
    direct = _rmse(walked[0], walked[-1])
    return Smoothness(
        rmse,
        dissimilarity,
        _variation(rmse),
        _variation(dissimilarity),
        float(rmse.sum() / direct) if direct else float("nan"),
        residual,
        _strangeness(residual),
        _residual(model, (1 - t) * images[:1] + t * images[-1:], label, batch),
    )


def _residual(model: LatentModel, images: Tensor, label: Tensor | None, batch: int) -> NDArray[np.float64]:
    parts = []
    for piece in torch.split(images, batch):
        again = model.reconstruct(piece, None if label is None else label.expand(len(piece)))
        parts.append((again - piece).double().flatten(1).square().mean(1).sqrt())
    return torch.cat(parts).cpu().numpy()


def _strangeness(residual: NDArray[np.float64]) -> float:
    ends = (residual[0] + residual[-1]) / 2
    return float(residual[1:-1].mean() / ends) if ends else float("nan")


def _variation(steps: NDArray[np.float64]) -> float:
    return float(steps.std() / steps.mean()) if steps.mean() else float("nan")


def _rmse(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean((x - y) ** 2)))
