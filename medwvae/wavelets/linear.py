"""Splitting and merging as differentiable functions, on CPU and CUDA, in every dtype.

Both are linear, so each one's backward is the other with the transposed matrix, and in forward mode each is its own
derivative.
"""

import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor

from medwvae.wavelets import fallback
from medwvae.wavelets.filters import Mode, coefficient_length, is_haar
from medwvae.wavelets.matrices import Kind, banded

HALF = (torch.float16, torch.bfloat16)
"""Types that are computed in float32."""

# torch types neither Function.apply nor its own decorators.
# mypy: disable-error-code="no-untyped-call"


class _Split(torch.autograd.Function):
    """All axes of (B, C, *spatial): analysis, or the adjoint of synthesis."""

    @staticmethod
    def forward(x: Tensor, wavelet: str, mode: str, adjoint: bool) -> tuple[Tensor, Tensor]:
        return _split_now(x, wavelet, mode, adjoint)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, *ctx.settings = inputs
        ctx.shape = list(x.shape[2:])

    @staticmethod
    def backward(ctx: Any, *bands: Tensor) -> tuple[Tensor | None, ...]:
        wavelet, mode, adjoint = ctx.settings
        return _Merge.apply(*bands, ctx.shape, wavelet, mode, not adjoint), None, None, None

    @staticmethod
    def jvp(ctx: Any, x: Tensor, *_: Any) -> Any:
        return _Split.apply(x, *ctx.settings)

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], x: Tensor, *settings: Any) -> Any:
        low, details = _Split.apply(_into_batch(x, dims[0]), *settings)
        return (_out_of_batch(low, info.batch_size), _out_of_batch(details, info.batch_size)), (0, 0)


class _Merge(torch.autograd.Function):
    """All axes to (B, C, *shape): synthesis, or the adjoint of analysis."""

    @staticmethod
    def forward(low: Tensor, details: Tensor, shape: Sequence[int], wavelet: str, mode: str, adjoint: bool) -> Tensor:
        return _merge_now(low, details, shape, wavelet, mode, adjoint)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *_, ctx.shape, wavelet, mode, adjoint = inputs
        ctx.settings = wavelet, mode, adjoint

    @staticmethod
    def backward(ctx: Any, image: Tensor) -> tuple[Tensor | None, ...]:
        wavelet, mode, adjoint = ctx.settings
        return (*_Split.apply(image, wavelet, mode, not adjoint), None, None, None, None)

    @staticmethod
    def jvp(ctx: Any, low: Tensor, details: Tensor, *_: Any) -> Any:
        return _Merge.apply(low, details, ctx.shape, *ctx.settings)

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], low: Tensor, details: Tensor, *settings: Any) -> Any:
        bands = (
            _into_batch(band.expand(info.batch_size, *band.shape) if dim is None else band, dim or 0)
            for band, dim in zip((low, details), dims[:2], strict=True)
        )
        return _out_of_batch(_Merge.apply(*bands, *settings), info.batch_size), 0


def _into_batch(x: Tensor, dim: int | None) -> Tensor:
    return x.movedim(dim or 0, 0).flatten(0, 1)


def _out_of_batch(x: Tensor, count: int) -> Tensor:
    return torch.unflatten(x, 0, (count, len(x) // count))


def split(x: Tensor, wavelet: str, mode: Mode) -> tuple[Tensor, Tensor]:
    """Split all axes of (B, C, *spatial) into the low band (B, C, *coarse) and details (B, 2^n − 1, C, *coarse)."""
    operator = _split_op if _opaque(x) else _Split.apply
    return cast(tuple[Tensor, Tensor], operator(x, wavelet, mode, False))


def merge(low: Tensor, details: Tensor, shape: Sequence[int], wavelet: str, mode: Mode) -> Tensor:
    """Merge them to (B, C, *shape)."""
    operator = _merge_op if _opaque(low, details) else _Merge.apply
    return cast(Tensor, operator(low, details, shape, wavelet, mode, False))


def _opaque(*tensors: Tensor) -> bool:
    """Whether the compiler traces, or a mode without data: it is shown one custom operator each.

    Eagerly, its import, a second's work, is not needed, and the functions know forward mode and torch.func as well.
    """
    return torch.compiler.is_compiling() or any(type(x) not in (Tensor, torch.nn.Parameter) for x in tensors)


def _split_now(x: Tensor, wavelet: str, mode: str, adjoint: bool) -> tuple[Tensor, Tensor]:
    rule = cast(Mode, mode)
    shapes = _band_shapes(x, wavelet, rule)
    exact = _widened(x)
    if not _compiled_kernels(x):
        low, details = (band.contiguous() for band in fallback.split(exact, wavelet, rule, adjoint))
        return low.to(x.dtype), details.to(x.dtype)
    from medwvae.wavelets import haar, kernels

    low, details = exact.new_empty(shapes[0]), exact.new_empty(shapes[1])
    arrays = exact.numpy(), low.numpy(), details.numpy()
    if is_haar(wavelet):
        haar.split(*arrays, "zero" if adjoint else rule)  # synthesis crops, so its adjoint appends a zero
    else:
        kernels.split(*arrays, _operators(x.shape[2:], wavelet, rule, _analysis_like(adjoint), exact))
    return low.to(x.dtype), details.to(x.dtype)


def _merge_now(low: Tensor, details: Tensor, shape: Sequence[int], wavelet: str, mode: str, adjoint: bool) -> Tensor:
    rule = cast(Mode, mode)
    _check(low, shape, wavelet, rule)
    exact = _widened(low)
    exact_details = _widened(details)
    if not _compiled_kernels(low):
        return fallback.merge(exact, exact_details, tuple(shape), wavelet, rule, adjoint).to(low.dtype)
    from medwvae.wavelets import haar, kernels

    image = exact.new_empty((*low.shape[:2], *shape))
    arrays = exact.numpy(), exact_details.numpy(), image.numpy()
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
    wide = x.detach().float() if x.dtype in HALF else x.detach()
    return wide.contiguous().resolve_neg()


@lru_cache(maxsize=1)
def has_numba() -> bool:
    """Return whether compiled kernels can be used; warn, once, if not."""
    try:
        import numba  # noqa: F401
    except ImportError as error:  # absent, or not made for this NumPy
        warnings.warn(f"Numba cannot be used ({error}); transforms and metrics are slower on the CPU", stacklevel=2)
        return False
    return True


def _compiled_kernels(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.numel() > 0 and has_numba()


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


def _split_op_backward(ctx: Any, low: Tensor, details: Tensor) -> tuple[Tensor | None, ...]:
    wavelet, mode, adjoint = ctx.settings
    return _merge_op(low, details, ctx.shape, wavelet, mode, not adjoint), None, None, None


def _merge_op_backward(ctx: Any, image: Tensor) -> tuple[Tensor | None, ...]:
    wavelet, mode, adjoint = ctx.settings
    return (*_split_op(image, wavelet, mode, not adjoint), None, None, None, None)


_split_op.register_autograd(_split_op_backward, setup_context=_Split.setup_context)
_merge_op.register_autograd(_merge_op_backward, setup_context=_Merge.setup_context)
