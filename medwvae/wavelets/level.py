"""One level of the transform: arguments checked, complex numbers taken apart, split axes brought to the end."""

from collections.abc import Sequence

import torch
from torch import Tensor

from medwvae.wavelets.filters import Mode, filter_bank
from medwvae.wavelets.linear import merge, split


def analyse(
    x: Tensor,
    spatial_dims: int = 2,
    wavelet: str = "haar",
    mode: Mode = "periodization",
    axes: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Split one level: (B, C, *spatial) to the approximation (B, C, *coarse) and the details (B, 2^m − 1, C, *coarse).

    Parameters
    ----------
    x : Tensor
        Real or complex; float16 and bfloat16 are computed in float32 and rounded once.
    axes : sequence of int, optional
        Which of the spatial axes (0 is the first) are split, m of them, ascending; all by default. The details are
        ordered as `subband_names(m)[1:]`.

    Raises
    ------
    ValueError
        If shape, axes, wavelet or mode do not fit.
    TypeError
        If `x` holds integers.
    """
    if x.ndim != spatial_dims + 2:
        raise ValueError(f"expected (B, C, *spatial) with {spatial_dims} spatial axes, got shape {tuple(x.shape)}")
    split_axes = _checked(axes, spatial_dims)
    if x.is_complex():
        real, imaginary = (analyse(part, spatial_dims, wavelet, mode, split_axes) for part in (x.real, x.imag))
        return torch.complex(real[0], imaginary[0]), torch.complex(real[1], imaginary[1])
    _check_numbers(x)
    if len(split_axes) == spatial_dims:
        return split(x, wavelet, mode)
    order, rest = _order(split_axes, spatial_dims)
    moved = x.permute(order)
    low, details = split(moved.flatten(1, 1 + rest), wavelet, mode)
    untouched = moved.shape[1 : 2 + rest]
    back = [order.index(axis) for axis in range(x.ndim)]
    low, details = torch.unflatten(low, 1, untouched), torch.unflatten(details, 2, untouched)
    return low.permute(back), details.permute(0, 1, *(1 + axis for axis in back[1:]))


def synthesise(
    approximation: Tensor,
    details: Tensor,
    shape: Sequence[int] | None = None,
    wavelet: str = "haar",
    mode: Mode = "periodization",
    axes: Sequence[int] | None = None,
) -> Tensor:
    """Merge one level, the exact inverse of `analyse`: the image (B, C, *shape).

    Without `shape` the largest is returned that has so many coefficients (the even one, in critically sampled modes).

    Raises
    ------
    ValueError
        If shapes, axes, wavelet or mode do not fit.
    TypeError
        If they hold integers, or are of different types.
    """
    spatial_dims = approximation.ndim - 2
    split_axes = _checked(axes, spatial_dims)
    expected = (approximation.shape[0], 2 ** len(split_axes) - 1, *approximation.shape[1:])
    if tuple(details.shape) != expected:
        raise ValueError(f"details of shape {expected} belong to this approximation, got {tuple(details.shape)}")
    _check_numbers(approximation, details)
    if approximation.is_complex():
        pairs = ((approximation.real, details.real), (approximation.imag, details.imag))
        return torch.complex(*(synthesise(a, d, shape, wavelet, mode, split_axes) for a, d in pairs))
    own = approximation.shape[2:]
    untouched = [axis for axis in range(spatial_dims) if axis not in split_axes]
    if shape is not None and (len(shape) != spatial_dims or any(shape[axis] != own[axis] for axis in untouched)):
        raise ValueError(
            f"coefficients of shape {tuple(own)}, split along axes {split_axes}, give no image {tuple(shape)}"
        )
    if shape is None:
        shape = [longest(size, wavelet, mode) if axis in split_axes else size for axis, size in enumerate(own)]
    target = [shape[axis] for axis in split_axes]
    if len(split_axes) == spatial_dims:
        return merge(approximation, details, target, wavelet, mode)
    order, rest = _order(split_axes, spatial_dims)
    low = approximation.permute(order)
    high = details.permute(0, 1, *(1 + axis for axis in order[1:]))
    image = merge(low.flatten(1, 1 + rest), high.flatten(2, 2 + rest), target, wavelet, mode)
    image = torch.unflatten(image, 1, low.shape[1 : 2 + rest])
    return image.permute([order.index(axis) for axis in range(low.ndim)])


def _taps(wavelet: str) -> int:
    return filter_bank(wavelet).length


# What torch.compiler.assume_constant_result does, which imports the whole compiler for it: two seconds of every start.
_taps._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _check_numbers(*tensors: Tensor) -> None:
    dtypes = {x.dtype for x in tensors}
    if len(dtypes) > 1:
        raise TypeError(f"approximation and details are of different types, {tensors[0].dtype} and {tensors[1].dtype}")
    if not (tensors[0].is_floating_point() or tensors[0].is_complex()):
        raise TypeError(
            f"the wavelet transform needs floating-point numbers, got {tensors[0].dtype}; convert with x.float()"
        )


def longest(count: int, wavelet: str, mode: Mode) -> int:
    """Return the largest size of an axis that has so many coefficients."""
    return 2 * count if mode in ("periodization", "boundary") else 2 * count - _taps(wavelet) + 2


def _checked(axes: Sequence[int] | None, spatial_dims: int) -> tuple[int, ...]:
    if not 1 <= spatial_dims <= 3:
        raise ValueError(f"transforms have 1, 2 or 3 spatial axes, not {spatial_dims}")
    found = tuple(range(spatial_dims)) if axes is None else tuple(axes)
    if not found or list(found) != sorted({axis for axis in found if 0 <= axis < spatial_dims}):
        raise ValueError(f"axes must be ascending numbers from 0 to {spatial_dims - 1}, got {found}")
    return found


def _order(axes: tuple[int, ...], spatial_dims: int) -> tuple[list[int], int]:
    """Return the order of axes of (B, C, *spatial) that puts the split ones last, and how many are not split."""
    rest = [2 + axis for axis in range(spatial_dims) if axis not in axes]
    return [0, 1, *rest, *(2 + axis for axis in axes)], len(rest)
