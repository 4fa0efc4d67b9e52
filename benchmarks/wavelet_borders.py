"""Figures and tables of docs/wavelets.md: python benchmarks/wavelet_borders.py docs/wavelets.

Writes modes.svg and thresholded.png and prints the tables as Markdown. Images are of the synthetic head: CT in HU and
T1-weighted MR on one grid of 320 x 320 x 24 voxels, 0.7 x 0.7 x 4 mm, without noise. Less than a minute on one core.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pywt
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from medwvae.data.phantom.anatomy import make_head
from medwvae.data.phantom.signal import PROTOCOLS, TISSUES, ct_image, mr_image
from medwvae.files import atomic
from medwvae.wavelets import MODES, Coefficients, Mode, dwt, idwt
from medwvae.wavelets.filters import extended

PROFILE = np.array([0.10, 0.12, 0.15, 0.20, 0.27, 0.36, 0.47, 0.60, 0.72, 0.82, 0.90, 0.96])
"""Smooth, dark on the left, bright where the field of view ends on the right."""
WAVELETS = ("haar", "db2", "db4", "sym4", "sym8", "coif2", "bior2.2", "bior4.4")
INK, MUTED, RULE, PAGE = "#1a1f24", "#5d6670", "#dcdfe2", "#fbfbfa"  # the report's light theme
SIGNAL, INVENTED = "#0067a8", "#c65102"
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "wavelets",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "figure.facecolor": PAGE,
    "axes.facecolor": "none",
}
RING = 8
"""Width, in pixels, of the border in which errors are counted apart."""


def phantom() -> tuple[Tensor, Tensor]:
    """CT in HU and MR with maximum one, (1, 1, 320, 320, 24), float64."""
    shape, spacing = (320, 320, 24), (0.7, 0.7, 4.0)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = np.array((0, 2, 18)) - (np.array(shape) - 1) / 2 * np.array(spacing)
    head = make_head(shape, affine, 7, lesions=True)
    ct, mr = ct_image(head, TISSUES), mr_image(head, TISSUES, PROTOCOLS["t1w"])
    return torch.from_numpy(ct).double()[None, None], torch.from_numpy(mr / mr.max()).double()[None, None]


def count(c: Coefficients) -> int:
    return c.approximation.numel() + sum(band.numel() for band in c.details)


def energy(c: Coefficients) -> float:
    return float(sum(band.square().sum() for band in c.subbands().values()))


def soft(c: Coefficients, threshold: float) -> Coefficients:
    return c.map_stacked(lambda kind, _, b: b if kind == "a" else b.sign() * (b.abs() - threshold).clamp_min(0))


def largest(c: Coefficients, kept: int) -> Coefficients:
    """Keep the approximation and the largest details, `kept` numbers together."""
    details = torch.cat([band.abs().flatten() for band in c.details])
    threshold = details.topk(kept - c.approximation.numel()).values[-1]
    return c.map_stacked(lambda kind, _, band: band if kind == "a" else band * (band.abs() >= threshold))


def rms(error: Tensor) -> float:
    return float(error.square().mean().sqrt())


def ring_and_inside(error: Tensor) -> tuple[float, float]:
    ring = torch.ones(error.shape[2:], dtype=torch.bool)
    ring[RING:-RING, RING:-RING] = False
    return rms(error[..., ring]), rms(error[..., ~ring])


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    print(f"\n{title}\n\n| {' | '.join(header)} |\n{'|---' * len(header)}|")
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row)} |")


def profile_details(mode: Mode) -> tuple[Coefficients, np.ndarray]:
    c = dwt(torch.from_numpy(PROFILE)[None, None], 1, 1, "db4", mode)
    return c, c.details[0].numpy().ravel()


def on_borders(c: Coefficients, wavelet: str = "db4") -> np.ndarray:
    """Which details of the profile read a sample from beyond a border, or come from a filter that is cut off there."""
    taps, critical = pywt.Wavelet(wavelet).dec_len, c.mode in ("periodization", "boundary")
    last = 2 * np.arange(c.details[0].shape[-1]) + (taps // 2 if critical else 1)
    return (last - taps + 1 < 0) | (last >= c.shapes[-1][0])


def draw_modes(path: Path) -> None:
    size, beyond = len(PROFILE), 9
    figure = Figure(figsize=(9.4, 9.6), layout="constrained")
    grid = figure.subplots(len(MODES), 2, sharex="col", sharey="col", width_ratios=(3, 2))
    for (left, right), mode in zip(grid, MODES, strict=True):
        at = np.arange(-beyond, size + beyond)
        source = extended(at, size, mode)
        values = np.where(source >= 0, PROFILE[source], 0.0)
        outside = (at < 0) | (at >= size)
        if mode == "boundary":
            left.text(-beyond / 2 - 0.5, 0.5, "nothing", ha="center", va="center", color=MUTED)
            left.text(size + beyond / 2 - 0.5, 0.5, "nothing", ha="center", va="center", color=MUTED)
        else:
            left.plot(at[outside], values[outside], "s", color=INVENTED, markersize=4, fillstyle="none")
        left.plot(np.arange(size), PROFILE, "o-", color=SIGNAL, markersize=4, linewidth=1)
        left.axvspan(-0.5, size - 0.5, color=SIGNAL, alpha=0.07, linewidth=0)
        left.set_ylim(-0.15, 1.15)
        left.set_ylabel(mode, rotation=0, ha="right", va="center", fontsize=10)
        stems(right, mode)
    grid[0, 0].set_title("samples (dots) and what stands beyond the border (squares)", color=INK, fontsize=9)
    grid[0, 1].set_title("db4 details of level 1; squares: the border's work", color=INK, fontsize=9)
    grid[-1, 0].set_xlabel("position, samples")
    grid[-1, 1].set_xlabel("number of the coefficient")
    with atomic(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})


def stems(axis: Axes, mode: Mode) -> None:
    c, details = profile_details(mode)
    border = on_borders(c)
    k = np.arange(len(details))
    axis.axhline(0, color=RULE, linewidth=0.8)
    for chosen, colour, marker in ((border, INVENTED, "s"), (~border, SIGNAL, "o")):
        axis.vlines(k[chosen], 0, details[chosen], color=colour, linewidth=1.5)
        axis.plot(k[chosen], details[chosen], marker, color=colour, markersize=4)
    text = f"{len(details)} coefficients, largest {np.abs(details).max():.2g}"
    axis.text(0.02, 0.93, text, transform=axis.transAxes, va="top", color=INK)
    axis.set_ylim(-0.7, 1.7)


def draw_thresholded(path: Path, whole: Tensor) -> None:
    modes: tuple[Mode, ...] = ("periodization", "symmetric", "zero", "boundary")
    figure = Figure(figsize=(10.4, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, 1 + len(modes))
    shown = None
    for axes, image, name in zip(grid, (whole, cropped(whole)), ("air at the border", "body cut off"), strict=True):
        axes[0].imshow(image[0, 0].T, cmap="gray", vmin=-1000, vmax=1000, origin="lower")
        axes[0].set_title(f"CT, {name}", fontsize=9)
        for axis, mode in zip(axes[1:], modes, strict=True):
            error = idwt(soft(dwt(image, 3, 2, "db4", mode), 100)) - image
            shown = axis.imshow(error[0, 0].abs().T, cmap="cividis", vmin=0, vmax=60, origin="lower")
            axis.set_title(f"{mode}: {ring_and_inside(error)[0]:.0f} HU", fontsize=9)
    for axis in grid.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.colorbar(shown, ax=grid, fraction=0.02, extend="max", label="|error|, HU")
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def cropped(image: Tensor) -> Tensor:
    return image[:, :, 64:256, 64:256]


def tables(ct: Tensor, mr: Tensor) -> None:
    ct_slice, mr_slice = ct[..., 12], mr[..., 12]
    energy_of = float(np.square(PROFILE).sum())

    def of_profile(mode: Mode) -> tuple[str, ...]:
        c, details = profile_details(mode)
        constant = dwt(torch.ones(1, 1, 64, dtype=torch.float64), 1, 1, "db4", mode).details[0].abs().max()
        ramp = dwt(torch.linspace(0, 1, 64, dtype=torch.float64)[None, None], 1, 1, "db4", mode).details[0].abs().max()
        border = on_borders(c)
        odd = torch.randn(1, 1, 31, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        kept = energy(dwt(odd, 1, 1, "db4", mode)) / float(odd.square().sum())
        return (
            f"`{mode}`",
            f"{np.abs(details[border]).max():.3f}",
            f"{np.abs(details[~border]).max():.3f}",
            f"{float(constant):.2g}",
            f"{float(ramp):.2g}",
            f"{energy(c) / energy_of:.3f}",
            f"{kept:.3f}",
        )

    header = (
        "Mode",
        "profile, border",
        "profile, inside",
        "constant 1",
        "ramp 0 to 1",
        "energy, profile",
        "energy, 31 samples",
    )
    table("Largest |detail|, db4, one level", header, map(of_profile, MODES))

    def more(wavelet: str, levels: int | tuple[int, ...], shape: tuple[int, ...]) -> str:
        c = dwt(torch.empty(1, 1, *shape, device="meta"), levels, len(shape), wavelet, "symmetric")
        return f"{count(c) / np.prod(shape) - 1:+.0%}"

    cases = ((3, (256, 256)), (3, (64, 64)), (3, (128, 128, 128)), ((3, 3, 1), (320, 320, 24)), (3, (320, 320, 24)))
    rows = [(f"`{w}`", *(more(w, levels, shape) for levels, shape in cases)) for w in WAVELETS]
    table("More coefficients than samples, redundant modes", ("Wavelet", *map(str, cases)), rows)

    images = (ct_slice, ct_slice + 1000, cropped(ct_slice), cropped(ct_slice) + 1000)

    def thresholded(mode: Mode) -> list[str]:
        errors = [ring_and_inside(idwt(soft(dwt(x, 3, 2, "db4", mode), 100)) - x) for x in images]
        return [f"`{mode}`", *(f"{ring:.1f} / {inside:.1f}" for ring, inside in errors)]

    header = ("Mode", "air −1000", "air 0", "cut off, air −1000", "cut off, air 0")
    table("RMSE in HU, border / inside, soft threshold 100 HU, db4, 3 levels", header, map(thresholded, MODES))

    def compaction(wavelet: str) -> list[str]:
        cells = [f"`{wavelet}`"]
        for x, digits in ((ct_slice, 1), (mr_slice, 4)):
            for mode in ("periodization", "symmetric"):
                error = idwt(largest(dwt(x, 3, 2, wavelet, mode), x.numel() // 20)) - x
                cells.append(f"{rms(error):.{digits}f}")
        return cells

    header = ("Wavelet", "CT, periodization", "CT, symmetric", "MR, periodization", "MR, symmetric")
    table("RMSE (HU; maximum 1) from as many coefficients as 5 % of the pixels", header, map(compaction, WAVELETS))
    table("MR, sigma 0.05", ("Wavelet", *MODES), (denoising(cropped(mr_slice), wavelet) for wavelet in WAVELETS))
    thick(ct, mr)
    conditioning()


def denoising(x: Tensor, wavelet: str) -> list[str]:
    """PSNR of soft thresholding at the best of a row of thresholds, mean over four draws of Gaussian noise."""
    draws = [torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype) for seed in range(4)]
    noisy = x + 0.05 * torch.cat(draws)
    cells = [f"`{wavelet}`"]
    for mode in MODES:
        c = dwt(noisy, 3, 2, wavelet, mode)
        errors = [idwt(soft(c, factor * 0.05)) - x for factor in np.arange(0.75, 2.01, 0.25)]
        best = min(errors, key=rms)
        whole, ring = (-20 * np.log10(value) for value in (rms(best), ring_and_inside(best)[0]))
        cells.append(f"{whole:.2f} / {ring:.2f}")
    return cells


def thick(ct: Tensor, mr: Tensor) -> None:
    plans = ((3, 3, 0), (3, 3, 1), (3, 3, 2), (3, 3, 3))
    rows = []
    for slices in (24, 8):
        part = slice(12 - slices // 2, 12 + slices // 2)
        for wavelet in ("haar", "db4", "bior4.4"):
            for mode in ("periodization", "symmetric") if wavelet != "haar" else ("periodization",):
                cells = []
                for levels in plans:
                    transformed = [(x[..., part], dwt(x[..., part], levels, 3, wavelet, mode)) for x in (ct, mr)]
                    a, b = (rms(idwt(largest(c, x.numel() // 20)) - x) for x, c in transformed)
                    x, c = transformed[0]
                    cells.append(f"{a:.1f} / {b:.4f} ({count(c) / x.numel() - 1:+.0%})")
                rows.append((slices, f"`{wavelet}`", mode, *cells))
    table("RMSE CT / MR from 5 % (more coefficients)", ("Slices", "Wavelet", "Mode", *map(str, plans)), rows)


def conditioning() -> None:
    def matrix(wavelet: str, mode: Mode) -> Tensor:
        c = dwt(torch.eye(64, dtype=torch.float64)[:, None], 1, 1, wavelet, mode)
        return torch.cat((c.approximation, c.details[0][:, 0]), dim=-1)[:, 0]

    rows = []
    for wavelet in ("db4", "sym8", "dmey", "bior2.2", "bior4.4", "bior6.8", "rbio3.1"):
        values = [torch.linalg.svdvals(matrix(wavelet, mode)) for mode in ("periodization", "boundary")]
        rows.append((f"`{wavelet}`", *(f"{float(v.min()):.4f} to {float(v.max()):.4f}" for v in values)))
    table("Singular values, 64 samples, one level", ("Wavelet", "periodization", "boundary"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the figures")
    options = parser.parse_args()
    ct, mr = phantom()
    with matplotlib.rc_context(STYLE):
        draw_modes(options.out / "modes.svg")
        draw_thresholded(options.out / "thresholded.png", ct[..., 12])
    tables(ct, mr)


if __name__ == "__main__":
    main()
