"""Random draws from a set of images for the training loop, and fixed ones to validate on."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from medwvae.data.image_sets.images import ImageSet
from medwvae.data.loaders import ALL, Draw, Share, of_share
from medwvae.errors import InputError
from medwvae.operators import Measurement
from medwvae.seeding import seed_for

_BATCH = 64
_LEAST_ERROR = 1e-10
"""Mean squared error that counts as none (100 dB), so that an image which is met exactly keeps the mean finite."""


def centred(images: Tensor, multiple: int) -> Tensor:
    """Crop (B, C, H, W) around the centre to the largest multiples of `multiple`.

    Raises
    ------
    InputError
        If there is none.
    """
    height, width = images.shape[2:]
    if min(height, width) < multiple:
        raise InputError(
            f"images of {height} x {width} pixels cannot be cropped to a multiple of {multiple}; scale them"
        )
    (top, h), (left, w) = ((n % multiple // 2, n - n % multiple) for n in (height, width))
    return images[:, :, top : top + h, left : left + w]


class ImageSampler:
    """Random images of a set, mirrored left to right by chance.

    Parameters
    ----------
    images : ImageSet
        Training images.
    mirror : bool
        Whether to mirror half of them.
    multiple : int
        Images are cropped around their centre to multiples of this (2^levels).
    """

    def __init__(self, images: ImageSet, *, mirror: bool = False, multiple: int = 1) -> None:
        self.images, self.mirror, self.multiple = images, mirror, multiple
        self.classes = images.classes

    def draw(self, batch: int, generator: torch.Generator, share: Share = ALL) -> Draw:
        """Return images (batch, C, h, w) in [0, 1], ones for their maxima, and their labels where the set has them."""
        drawn = torch.randint(len(self.images), (batch,), generator=generator)
        rows = of_share(drawn, len(self.images), share)
        images, labels = self.images.take(rows.numpy())
        images = centred(images, self.multiple)
        if self.mirror:
            mirrored = torch.randint(2, (batch, 1, 1, 1), generator=generator).bool()
            images = torch.where(mirrored, images.flip(-1), images)
        return Draw(images.contiguous(), torch.ones(batch), labels)


class ImageValidation:
    """Fixed images of a set; the score is the mean over images of the PSNR of their reconstructions.

    Parameters
    ----------
    images : ImageSet
        Validation images.
    count : int
        How many of them to use, chosen by the seed; all, if there are fewer.
    multiple : int
        As of `ImageSampler`.
    """

    def __init__(self, images: ImageSet, count: int, seed: int, *, multiple: int = 1) -> None:
        generator = torch.Generator().manual_seed(seed_for(seed, "validation images"))
        rows = torch.randperm(len(images), generator=generator)[:count].sort().values
        chosen, labels = images.take(rows.numpy())
        self.measurement = Measurement(centred(chosen, multiple), label=labels)

    def __call__(self, model: Callable[[Any], Any], device: torch.device) -> float:
        """Mean PSNR in dB of a model's answers (range: 1)."""
        scores = []
        for first in range(0, len(self.measurement.start), _BATCH):
            part = self.measurement[slice(first, first + _BATCH)]
            with torch.no_grad():
                answer = model(part.to(device)).image.cpu().float()
            error = (answer - part.start).square().flatten(1).mean(1)
            scores.append(-10 * torch.log10(error.clamp(min=_LEAST_ERROR)))
        return float(torch.cat(scores).mean())
