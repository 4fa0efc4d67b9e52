"""CT from few views without training: filtered back-projection and the simultaneous iterative technique."""

import torch
from torch import Tensor

from medwvae.operators import Measurement, Radon
from medwvae.operators.radon import Window

WINDOWS: tuple[Window, ...] = ("ramp", "hann")


def fbp(measurement: Measurement, window: float) -> Tensor:
    """Reconstruct by FBP with the ramp filter (`window` 0) or one tapered after Hann (1); no negative values."""
    operator, data = _sinogram(measurement)
    return operator.filtered_back_projection(data, WINDOWS[int(window)]).clamp(min=0)


def sirt(measurement: Measurement, iterations: float) -> Tensor:
    """SIRT from zero, kept non-negative (Gilbert, J Theor Biol 36, 1972): x + C Aᵀ R (y − A x).

    R and C are the inverse sums of the rows and columns of A. Fewer iterations are a smoother image.
    """
    operator, data = _sinogram(measurement)
    ones = torch.ones_like(measurement.start[:1])
    rows, columns = operator.forward(ones), operator.adjoint(torch.ones_like(data[:1]))
    rows, columns = (torch.where(s > 1e-6, 1 / s.clamp(min=1e-6), torch.zeros_like(s)) for s in (rows, columns))
    image = torch.zeros_like(measurement.start)
    for _ in range(int(iterations)):
        image = (image + columns * operator.adjoint(rows * (data - operator.forward(image)))).clamp(min=0)
    return image


def _sinogram(measurement: Measurement) -> tuple[Radon, Tensor]:
    if not isinstance(measurement.operator, Radon) or measurement.data is None:
        raise ValueError("back-projection needs a sinogram")
    return measurement.operator, measurement.data
