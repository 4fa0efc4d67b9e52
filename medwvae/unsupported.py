"""Detail that a measurement does not support: what a restoration added on its own account."""

import torch
from torch import Tensor

from medwvae.operators import Measurement
from medwvae.wavelets import dwt, idwt_variance

LEVELS = 3
STEPS = 64
"""Of conjugate gradients, where an operator has no projection in closed form; fewer call unseen what was measured."""


def unsupported_detail(measurement: Measurement, image: Tensor, levels: int = LEVELS) -> Tensor | None:
    """Return, for every voxel, how much detail of an image lies in the null space of the measurement.

    x̂ − A†A x̂ is the part of an image that the operator does not see: no measurement speaks for it or against it. Its
    energy in the detail subbands of Haar's transform in plane is shared out among the voxels that each coefficient
    reaches (`idwt_variance`), so that the squares of the map add up to the energy. It may well be true; the map says
    where a reader has the method's word alone.

    Where the operator is solved by conjugate gradients (CT, several coils), A†A is as exact as `STEPS` of them.

    Parameters
    ----------
    measurement : Measurement
        Of slices (S, C, H, W).
    image : Tensor
        Restored slices (S, 1, H, W), network units; of a demodulated measurement their magnitude, taken as real.
    levels : int
        Levels of the transform; the approximation of the last does not count.

    Returns
    -------
    Tensor or None
        (S, 1, H, W), network units; None without an operator (denoising), for nothing is out of sight there.
    """
    if measurement.operator is None or measurement.data is None:
        return None
    missing = measurement.start.shape[1] - image.shape[1]
    full = torch.cat([image, *[torch.zeros_like(image)] * missing], dim=1) if missing else image
    unseen = measurement.operator.project(full, torch.zeros_like(measurement.data), STEPS)
    coefficients = dwt(unseen, levels, 2)
    details = tuple(part.square() for part in coefficients.details)
    energy = idwt_variance(coefficients.replace(torch.zeros_like(coefficients.approximation), details))
    return energy.sum(1, keepdim=True).sqrt()
