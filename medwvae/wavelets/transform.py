"""The multi-level transform and its exact inverse, as functions and as modules."""

from collections.abc import Sequence
from operator import index

from torch import Tensor, nn

from medwvae.wavelets.coefficients import Coefficients
from medwvae.wavelets.filters import Mode
from medwvae.wavelets.level import analyse, synthesise
from medwvae.wavelets.linear import HALF


def dwt(
    x: Tensor,
    levels: int | Sequence[int],
    spatial_dims: int = 2,
    wavelet: str = "haar",
    mode: Mode = "periodization",
) -> Coefficients:
    """Multi-level analysis of (B, C, *spatial), 1 to 3 spatial axes of any size.

    Parameters
    ----------
    x : Tensor
        float64, float32, or bfloat16 or float16 (computed in float32 through all levels, rounded once), or complex.
    levels : int or sequence of int
        Number of levels, or one number per axis. An axis with fewer levels is left alone by the finest ones: with
        (3, 3, 1) two levels bring the in-plane spacing near to the slice spacing before the third splits all axes.
    wavelet : str
        Any discrete wavelet of PyWavelets.
    mode : str
        Border mode, see `medwvae.wavelets.MODES` and docs/wavelets.md.

    Raises
    ------
    ValueError
        If there is no level to do, or shape, wavelet or mode do not fit.
    TypeError
        If `x` holds integers, or `levels` is no integer.
    """
    per_axis = tuple(map(index, levels)) if isinstance(levels, Sequence) else (index(levels),) * spatial_dims
    if len(per_axis) != spatial_dims or x.ndim != spatial_dims + 2 or min(per_axis) < 0 or max(per_axis) < 1:
        raise ValueError(
            f"need levels >= 1, one number or {spatial_dims}, and {spatial_dims + 2} axes; got levels={levels}, "
            f"shape {tuple(x.shape)}"
        )
    dtype = x.dtype
    if dtype in HALF:
        x = x.float()
    depth = max(per_axis)
    details: list[Tensor] = []
    shapes: list[tuple[int, ...]] = []
    axes: list[tuple[int, ...]] = []
    for level in range(1, depth + 1):
        shapes.append(tuple(x.shape[2:]))
        axes.append(tuple(axis for axis, own in enumerate(per_axis) if level > depth - own))
        x, band = analyse(x, spatial_dims, wavelet, mode, axes[-1])
        details.append(band)
    if dtype in HALF:
        x, details = x.to(dtype), [band.to(dtype) for band in details]
    return Coefficients(x, tuple(details[::-1]), tuple(shapes[::-1]), tuple(axes[::-1]), wavelet, mode)


def idwt(coefficients: Coefficients) -> Tensor:
    """Exact inverse of `dwt`: the image, (B, C, *spatial), in its exact shape.

    Raises
    ------
    ValueError
        If the coefficients' shapes do not fit one another.
    """
    x = coefficients.approximation
    dtype = x.dtype
    if dtype in HALF:
        x = x.float()
    wavelet, mode = coefficients.wavelet, coefficients.mode
    for details, shape, axes in zip(coefficients.details, coefficients.shapes, coefficients.axes, strict=True):
        x = synthesise(x, details.float() if details.dtype in HALF else details, shape, wavelet, mode, axes)
    return x.to(dtype)


class DWT(nn.Module):
    """`dwt` as a layer: (B, C, *spatial) to `Coefficients`. It has no parameters."""

    def __init__(
        self,
        levels: int | Sequence[int],
        spatial_dims: int = 2,
        wavelet: str = "haar",
        mode: Mode = "periodization",
    ) -> None:
        super().__init__()
        self.levels, self.spatial_dims, self.wavelet, self.mode = levels, spatial_dims, wavelet, mode

    def forward(self, x: Tensor) -> Coefficients:
        """See `dwt`."""
        return dwt(x, self.levels, self.spatial_dims, self.wavelet, self.mode)

    def extra_repr(self) -> str:
        """Return the settings, for print(module)."""
        return f"{self.levels}, {self.spatial_dims}, {self.wavelet!r}, {self.mode!r}"


class IDWT(nn.Module):
    """`idwt` as a layer: `Coefficients`, which know their wavelet and mode, to (B, C, *spatial)."""

    def forward(self, coefficients: Coefficients) -> Tensor:
        """See `idwt`."""
        return idwt(coefficients)
