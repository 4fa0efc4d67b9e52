"""CT from few views without training: filtered back-projection and the simultaneous iterative technique."""

import torch
from torch import Tensor

from medwvae.operators import Measurement, Radon
from medwvae.operators.radon import Window

WINDOWS: tuple[Window, ...] = ("ramp", "hann")


def fbp(measurement: Measurement, window: float) -> Tensor:
    """Reconstruct by FBP with the ramp filter (`window` 0) or one tapered after Hann (1); no negative values."""
    operator, data = sinogram_of(measurement)
    return operator.filtered_back_projection(data, WINDOWS[int(window)]).clamp(min=0)


def sirt(measurement: Measurement, iterations: float) -> Tensor:
    """SIRT from zero, kept non-negative (Gilbert, J Theor Biol 36, 1972): x + C Aᵀ R (y − A x).

    R and C are the inverse sums of the rows and columns of A. Fewer iterations are a smoother image.
    """
    operator, data = sinogram_of(measurement)
    rows, columns = inverse_sums(operator, measurement.start, data)
    image = torch.zeros_like(measurement.start)
    for _ in range(int(iterations)):
        image = (image + columns * operator.adjoint(rows * (data - operator.forward(image)))).clamp(min=0)
    return image


def inverse_sums(operator: Radon, image: Tensor, data: Tensor) -> tuple[Tensor, Tensor]:
    """Return the inverse sums of A's rows, (1, 1, views, detectors), and columns, (1, 1, H, W); 0 where A is."""
    sums = operator.forward(torch.ones_like(image[:1])), operator.adjoint(torch.ones_like(data[:1]))
    rows, columns = (torch.where(s > 1e-6, 1 / s.clamp(min=1e-6), torch.zeros_like(s)) for s in sums)
    return rows, columns


def sinogram_of(measurement: Measurement) -> tuple[Radon, Tensor]:
    """Return operator and data of a CT measurement.

    Raises
    ------
    ValueError
        If it is none.
    """
    if not isinstance(measurement.operator, Radon) or measurement.data is None:
        raise ValueError("back-projection needs a sinogram")
    return measurement.operator, measurement.data
