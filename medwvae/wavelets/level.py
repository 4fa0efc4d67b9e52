"""One level of the transform: differentiable (any number of times), on CPU and CUDA, opaque to torch.compile.

Analysis and synthesis are linear, and each one's backward is the other's kernel with the transposed operator: two
custom operators, `split` and `merge`, which are each other's derivative.
"""

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import Tensor

from medwvae.wavelets import fallback
from medwvae.wavelets.filters import Mode, coefficient_length, filter_bank, is_haar
from medwvae.wavelets.matrices import Kind, banded


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
    if not x.is_floating_point():
        raise TypeError(f"the wavelet transform needs floating-point numbers, got {x.dtype}; convert with x.float()")
    if len(split_axes) == spatial_dims:
        return _split(x, wavelet, mode)
    order, rest = _order(split_axes, spatial_dims)
    moved = x.permute(order)
    low, details = _split(moved.flatten(1, 1 + rest), wavelet, mode)
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
    """
    spatial_dims = approximation.ndim - 2
    split_axes = _checked(axes, spatial_dims)
    expected = (approximation.shape[0], 2 ** len(split_axes) - 1, *approximation.shape[1:])
    if tuple(details.shape) != expected:
        raise ValueError(f"details of shape {expected} belong to this approximation, got {tuple(details.shape)}")
    if approximation.is_complex():
        pairs = ((approximation.real, details.real), (approximation.imag, details.imag))
        return torch.complex(*(synthesise(a, d, shape, wavelet, mode, split_axes) for a, d in pairs))
    own = approximation.shape[2:]
    if shape is None:
        shape = [longest(size, wavelet, mode) if axis in split_axes else size for axis, size in enumerate(own)]
    target = [shape[axis] for axis in split_axes]
    if len(split_axes) == spatial_dims:
        return _merge(approximation, details, target, wavelet, mode)
    order, rest = _order(split_axes, spatial_dims)
    low = approximation.permute(order)
    high = details.permute(0, 1, *(1 + axis for axis in order[1:]))
    image = _merge(low.flatten(1, 1 + rest), high.flatten(2, 2 + rest), target, wavelet, mode)
    image = torch.unflatten(image, 1, low.shape[1 : 2 + rest])
    return image.permute([order.index(axis) for axis in range(low.ndim)])


def longest(count: int, wavelet: str, mode: Mode) -> int:
    """Return the largest size of an axis that has so many coefficients."""
    return 2 * count if mode in ("periodization", "boundary") else 2 * count - filter_bank(wavelet).length + 2


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


def _split(x: Tensor, wavelet: str, mode: Mode) -> tuple[Tensor, Tensor]:
    return cast(tuple[Tensor, Tensor], (_split_op if _recorded(x) else _split_now)(x, wavelet, mode, False))


def _merge(low: Tensor, details: Tensor, shape: Sequence[int], wavelet: str, mode: Mode) -> Tensor:
    operator = _merge_op if _recorded(low, details) else _merge_now
    return cast(Tensor, operator(low, details, shape, wavelet, mode, False))


def _recorded(*tensors: Tensor) -> bool:
    """Whether gradients or the compiler follow; if not, the operators' first use need not import PyTorch's compiler."""
    followed = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    return followed or torch.compiler.is_compiling() or any(type(x) is not Tensor for x in tensors)


def _split_now(x: Tensor, wavelet: str, mode: str, adjoint: bool) -> tuple[Tensor, Tensor]:
    """All axes of (B, C, *spatial): analysis, or the adjoint of synthesis."""
    rule = cast(Mode, mode)
    shapes = _band_shapes(x, wavelet, rule)
    exact = _widened(x)
    if not _compiled_kernels(x):
        low, details = fallback.split(exact, wavelet, rule, adjoint)
        return low.to(x.dtype), details.to(x.dtype)
    from medwvae.wavelets import haar, kernels

    low, details = exact.new_empty(shapes[0]), exact.new_empty(shapes[1])
    arrays = exact.contiguous().numpy(), low.numpy(), details.numpy()
    if is_haar(wavelet):
        haar.split(*arrays, "zero" if adjoint else rule)  # synthesis crops, so its adjoint appends a zero
    else:
        kernels.split(*arrays, _operators(x.shape[2:], wavelet, rule, _analysis_like(adjoint), exact))
    return low.to(x.dtype), details.to(x.dtype)


def _merge_now(low: Tensor, details: Tensor, shape: Sequence[int], wavelet: str, mode: str, adjoint: bool) -> Tensor:
    """All axes to (B, C, *shape): synthesis, or the adjoint of analysis."""
    rule = cast(Mode, mode)
    _check(low, shape, wavelet, rule)
    exact, exact_details = _widened(low), _widened(details)
    if not _compiled_kernels(low):
        return fallback.merge(exact, exact_details, tuple(shape), wavelet, rule, adjoint).to(low.dtype)
    from medwvae.wavelets import haar, kernels

    image = exact.new_empty((*low.shape[:2], *shape))
    arrays = exact.contiguous().numpy(), exact_details.contiguous().numpy(), image.numpy()
    if is_haar(wavelet) and not (adjoint and any(size % 2 for size in shape)):
        haar.merge(*arrays)
    else:
        kernels.merge(*arrays, _operators(shape, wavelet, rule, _synthesis_like(adjoint), exact))
    return image.to(low.dtype)


def _analysis_like(adjoint: bool) -> Kind:
    return "synthesis adjoint" if adjoint else "analysis"


def _synthesis_like(adjoint: bool) -> Kind:
    return "analysis adjoint" if adjoint else "synthesis"


def _widened(x: Tensor) -> Tensor:
    return x.detach().float() if x.dtype in (torch.float16, torch.bfloat16) else x.detach()


@lru_cache(maxsize=1)
def _has_numba() -> bool:
    return find_spec("numba") is not None


def _compiled_kernels(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.numel() > 0 and _has_numba()


def _operators(shape: Sequence[int], wavelet: str, mode: Mode, kind: Kind, like: Tensor) -> list[tuple[Any, ...]]:
    dtype = "float64" if like.dtype == torch.float64 else "float32"
    return [tuple(banded(wavelet, mode, size, kind, dtype)) for size in shape]


def _band_shapes(x: Tensor, wavelet: str, mode: Mode) -> tuple[list[int], list[int]]:
    sizes = [coefficient_length(size, wavelet, mode) for size in x.shape[2:]]
    return [*x.shape[:2], *sizes], [x.shape[0], 2 ** len(sizes) - 1, x.shape[1], *sizes]


def _check(low: Tensor, shape: Sequence[int], wavelet: str, mode: Mode) -> None:
    expected = tuple(coefficient_length(size, wavelet, mode) for size in shape)
    if tuple(low.shape[2:]) != expected:
        raise ValueError(
            f"an image of shape {tuple(shape)} has {expected} coefficients per subband with {wavelet!r}, {mode!r}; "
            f"got {tuple(low.shape[2:])}"
        )


_split_op = torch.library.custom_op("medwvae::wavelet_split", _split_now, mutates_args=())
_merge_op = torch.library.custom_op("medwvae::wavelet_merge", _merge_now, mutates_args=())


@_split_op.register_fake
def _(x: Tensor, wavelet: str, mode: str, adjoint: bool) -> tuple[Tensor, Tensor]:
    low, details = _band_shapes(x, wavelet, cast(Mode, mode))
    return x.new_empty(low), x.new_empty(details)


@_merge_op.register_fake
def _(low: Tensor, details: Tensor, shape: Sequence[int], wavelet: str, mode: str, adjoint: bool) -> Tensor:
    _check(low, shape, wavelet, cast(Mode, mode))
    return low.new_empty((*low.shape[:2], *shape))


def _keep_split(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, *ctx.settings = inputs
    ctx.shape = list(x.shape[2:])


def _split_backward(ctx: Any, low: Tensor, details: Tensor) -> tuple[Tensor | None, ...]:
    wavelet, mode, adjoint = ctx.settings
    return _merge_op(low, details, ctx.shape, wavelet, mode, not adjoint), None, None, None


def _keep_merge(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *_, wavelet, mode, adjoint = inputs
    ctx.settings = wavelet, mode, adjoint


def _merge_backward(ctx: Any, image: Tensor) -> tuple[Tensor | None, ...]:
    wavelet, mode, adjoint = ctx.settings
    return (*_split_op(image, wavelet, mode, not adjoint), None, None, None, None)


_split_op.register_autograd(_split_backward, setup_context=_keep_split)
_merge_op.register_autograd(_merge_backward, setup_context=_keep_merge)
