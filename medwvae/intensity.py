"""Invertible intensity scaling that carries its own parameters."""

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from medwvae.errors import InputError
from medwvae.names import Modality

AIR_HU = -1000.0


@dataclass(frozen=True)
class LinearScaling:
    """network = (image − offset) / factor. Image units: scanner units (MR) or HU (CT)."""

    offset: float
    factor: float

    def apply(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """Image units to network units."""
        return ((image - self.offset) / self.factor).astype(np.float32)

    def invert(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """Network units to image units."""
        return (image * self.factor + self.offset).astype(np.float32)

    def invert_width(self, width: NDArray[Any]) -> NDArray[np.float32]:
        """Differences in network units to differences in image units: the offset is not theirs."""
        return (width * self.factor).astype(np.float32)

    def to_dict(self) -> dict[str, float]:
        """Return the parameters, for the file that travels with the image."""
        return asdict(self)

    @classmethod
    def from_dict(cls, parameters: dict[str, float]) -> Self:
        """Undo `to_dict`."""
        return cls(**parameters)


def reference_scaling(
    image: NDArray[np.floating], head: NDArray[np.bool_], *, modality: Modality, percentile: float
) -> LinearScaling:
    """Scale so that air is 0 and the given percentile inside the head is 1. Nothing is clipped.

    Raises
    ------
    InputError
        If the head holds no signal above air.
    """
    offset = AIR_HU if modality == "CT" else 0.0
    factor = float(np.percentile(image[head], percentile)) - offset if head.any() else 0.0
    if not factor > 0:
        raise InputError("the image holds no signal above air: it cannot be scaled")
    return LinearScaling(offset, factor)
