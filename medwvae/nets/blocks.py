"""N-d building blocks: one class serves 2D and 3D."""

from types import EllipsisType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_CONVOLUTIONS: dict[int, type[nn.Conv1d | nn.Conv2d | nn.Conv3d]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def conv(dims: int, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, *, zero: bool = False) -> nn.Module:
    """Return a convolution with 'same' padding; `zero` starts weights and bias at 0 (a silent head)."""
    layer = _CONVOLUTIONS[dims](inputs, outputs, kernel, stride=stride, padding=kernel // 2)
    if zero:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(cast(Tensor, layer.bias))
    return layer


_TRANSPOSED: dict[int, type[nn.ConvTranspose2d | nn.ConvTranspose3d]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def strided(dims: int, inputs: int, outputs: int, axes: tuple[int, ...], *, transposed: bool = False) -> nn.Module:
    """Return a convolution of size and stride 2 along `axes`, 1 along others, without bias; or a transposed one."""
    size: Any = tuple(2 if axis in axes else 1 for axis in range(dims))
    layer = (_TRANSPOSED if transposed else _CONVOLUTIONS)[dims]
    return layer(inputs, outputs, size, stride=size, bias=False)


class Residual(nn.Module):
    """x + conv(relu(conv(x))): plain 3×3 residual block (He et al. 2016, without normalisation).

    A `silent` one begins as the identity, which lets many of them train fast (Zhang, Dauphin and Ma, ICLR 2019).
    """

    def __init__(self, dims: int, width: int, silent: bool = False) -> None:
        super().__init__()
        self.first = conv(dims, width, width)
        self.second = conv(dims, width, width, zero=silent)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, *spatial) to the same shape."""
        return x + cast(Tensor, self.second(F.relu(self.first(x))))


def residuals(dims: int, width: int, count: int, *, silent: bool = False) -> nn.Sequential:
    """Return `count` residual blocks in a row."""
    return nn.Sequential(*(Residual(dims, width, silent) for _ in range(count)))


def pad_to_multiple(x: Tensor, multiple: int | tuple[int, ...], dims: int) -> Tensor:
    """Extend the spatial axes by replication at their ends, up to the next multiple (one, or one per axis)."""
    multiples = multiple if isinstance(multiple, tuple) else (multiple,) * dims
    sizes = zip(reversed(x.shape[-dims:]), reversed(multiples), strict=True)
    padding = [amount for size, own in sizes for amount in (0, -size % own)]
    return F.pad(x, padding, mode="replicate") if any(padding) else x


def space_to_depth(x: Tensor, factors: tuple[int, ...]) -> Tensor:
    """Move blocks of `factors` samples to channels: (B, C, *spatial) to (B, C·Πf, *spatial / f), exactly invertible."""
    dims = len(factors)
    split = [size for n, f in zip(x.shape[2:], factors, strict=True) for size in (n // f, f)]
    grids, inner = range(2, 2 + 2 * dims, 2), range(3, 3 + 2 * dims, 2)
    return x.reshape(*x.shape[:2], *split).permute(0, 1, *inner, *grids).flatten(1, 1 + dims)


def depth_to_space(x: Tensor, factors: tuple[int, ...]) -> Tensor:
    """Undo `space_to_depth`."""
    dims = len(factors)
    blocks = torch.unflatten(x, 1, (-1, *factors))
    order = [axis for k in range(dims) for axis in (2 + dims + k, 2 + k)]  # each grid axis before its own samples
    shape = [n * f for n, f in zip(x.shape[2:], factors, strict=True)]
    return blocks.permute(0, 1, *order).reshape(len(x), -1, *shape)


class SpaceToDepth(nn.Module):
    """`space_to_depth` as a layer."""

    def __init__(self, factors: tuple[int, ...]) -> None:
        super().__init__()
        self.factors = factors

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, *spatial) to (B, C·Πf, *spatial / f)."""
        return space_to_depth(x, self.factors)


class DepthToSpace(SpaceToDepth):
    """`depth_to_space` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C·Πf, *spatial) to (B, C, *spatial · f)."""
        return depth_to_space(x, self.factors)


def crop_to(x: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Undo `pad_to_multiple`: keep the first `shape` samples of the spatial axes."""
    index: tuple[EllipsisType | slice, ...] = (..., *(slice(0, size) for size in shape))
    return x[index]
