"""Lost pixels: the operator that keeps the others, and masks of what is lost (blocks, slices, streaks)."""

import torch
from torch import Tensor

from medwvae.operators.base import Operator


class Masking(Operator):
    """Pixels under a mask: y = m x, shaped like the image, zero where lost."""

    coisometry = True
    exact = True

    def __init__(self, mask: Tensor, dims: int = 2) -> None:
        self.mask: Tensor = mask
        self.dims = dims

    def _forward(self, x: Tensor) -> Tensor:
        return torch.where(self.mask, x, torch.zeros((), dtype=x.dtype, device=x.device))

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._forward(y)

    def _project(self, x: Tensor, y: Tensor, steps: int) -> Tensor:
        return torch.where(self.mask, y, x)

    def mirrored(self, axes: tuple[int, ...], y: Tensor) -> tuple[Operator, Tensor]:
        """See `Operator.mirrored`."""
        return Masking(self.mask.flip(axes), self.dims), y.flip(axes)


def block_mask(shape: tuple[int, ...], lost: float, size: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Known pixels beside lost blocks: bool (1, 1, *shape).

    Blocks with sides drawn from `size` (least and largest, as fractions of the image's) are put anywhere until at
    least the fraction `lost` is gone.

    Raises
    ------
    ValueError
        If the fraction is not in [0, 1).
    """
    if not 0 <= lost < 1:
        raise ValueError(f"the lost fraction must be at least 0 and below 1, got {lost:g}")
    mask = torch.ones(shape, dtype=torch.bool)
    while float((~mask).float().mean()) < lost:
        block = []
        for extent in shape:
            share = size[0] + (size[1] - size[0]) * float(torch.rand((), generator=generator))
            side = min(max(1, round(extent * share)), extent)
            start = int(torch.randint(0, extent - side + 1, (), generator=generator))
            block.append(slice(start, start + side))
        mask[tuple(block)] = False
    return mask[None, None]


def missing_slices_mask(slices: int, lost: int, generator: torch.Generator, run: int = 1) -> Tensor:
    """Known slices along one axis: bool (slices,), `lost` of them gone in runs of `run`, never the first or the last.

    Raises
    ------
    ValueError
        If so many cannot be lost.
    """
    if not 0 <= lost <= slices - 2 or run < 1:
        raise ValueError(f"{lost} of {slices} slices cannot be missing between the first and the last")
    mask = torch.ones(slices, dtype=torch.bool)
    for start in (1 + torch.randperm(slices - 2, generator=generator)).tolist():
        gone = int((~mask).sum())
        mask[start : min(start + min(run, lost - gone), slices - 1)] = False
        # Runs may overlap: trim what is too much, never less than asked for.
        if int((~mask).sum()) >= lost:
            break
    return mask


def streak_mask(
    shape: tuple[int, int],
    generator: torch.Generator,
    *,
    streaks: int = 8,
    radius: float = 0.05,
    width: float = 0.015,
) -> Tensor:
    """Known pixels beside those that metal spoils: bool (1, 1, H, W).

    Two inserts (discs) near the middle; bands run from each through the image in random directions, and one joins the
    two, as beam hardening and photon starvation leave them.

    Parameters
    ----------
    streaks : int
        Bands through each insert.
    radius, width : float
        Of an insert and of a band, as fractions of the shorter side.
    """
    short = min(shape)
    y, x = torch.meshgrid(*(torch.arange(n) - (n - 1) / 2 for n in shape), indexing="ij")
    draws = torch.rand((2, 2), generator=generator) - 0.5
    centres = draws * torch.tensor(shape) * 0.5
    lost = torch.zeros(shape, dtype=torch.bool)
    between = torch.atan2(*(centres[1] - centres[0]))
    for down, right in centres:
        lost |= torch.hypot(y - down, x - right) <= radius * short
        for angle in (*(torch.rand(streaks, generator=generator) * torch.pi), between):
            distance = (x - right) * angle.sin() - (y - down) * angle.cos()
            lost |= distance.abs() <= max(width * short, 0.5) / 2
    return ~lost[None, None]
