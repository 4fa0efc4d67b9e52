"""Images of one part of a set, and which of the training images are set aside for validation."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medwvae.errors import InputError
from medwvae.names import Part
from medwvae.seeding import seed_for


@dataclass(frozen=True, eq=False)
class ImageSet:
    """The images of one part.

    Attributes
    ----------
    images : array (N, C, H, W), uint8
        C = 3 (red, green, blue) or 1 (grey); may be mapped from a file, read-only.
    labels : array (N,), int64, or None
        Index of each image's class in `classes`.
    classes : tuple of str
        Names of the classes; empty where there are none.
    part : {"train", "val", "test"}
        Which part this is.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    part: Part

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor | None]:
        """Return some images, float32 in [0, 1], (B, C, H, W), and their labels (B,)."""
        images = torch.from_numpy(np.asarray(self.images[rows])).float() / 255
        return images, None if self.labels is None else torch.from_numpy(self.labels[rows])


def held_out(count: int, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Choose `fraction` of `count` training images for validation, by a hash of the seed and the number: (count,) bool.

    Raises
    ------
    InputError
        If there are fewer than two images, of which one cannot both train and validate.
    """
    if count < 2:
        raise InputError(f"{count} training image cannot give a training and a validation part; use the whole set")
    chosen = sorted(range(count), key=lambda n: seed_for("validation images", seed, n))
    mask = np.zeros(count, bool)
    mask[chosen[: min(max(round(count * fraction), 1), count - 1)]] = True
    return mask
