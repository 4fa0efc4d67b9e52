"""The wavelet transform beside ptwt, PyWavelets, pytorch_wavelets (2D; the extra `bench`) and a plain copy.

Three levels. The transforms of a row take turns, so that a disturbance of the machine hits all of them; a ratio is the
median over the turns. Two border modes: `symmetric`, which all have, and `periodization`, for which ptwt, having no
critically sampled mode, runs its cheapest one, `zero`.
"""

import argparse
import math
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ptwt
import pywt
import torch
from _table import arguments, publish

from medwvae.wavelets import dwt, idwt

LEVELS = 3
SHAPES = ((8, 1, 256, 256), (1, 1, 1024, 1024), (2, 1, 96, 96, 96), (1, 1, 192, 192, 192))
WAVELETS = ("haar", "db4", "bior4.4")
MODES = ("periodization", "symmetric")
PEERS = ("ptwt", "PyWavelets", "pytorch_wavelets")
OPERATIONS = ("forward", "inverse", "forward+backward")
Call = Callable[[], Any]
Calls = dict[str, Call]


def ours(x: torch.Tensor, wavelet: str, mode: Any) -> Calls:
    n = x.ndim - 2
    coefficients = dwt(x, LEVELS, n, wavelet, mode)

    def both() -> None:
        leaf = x.clone().requires_grad_()
        total = dwt(leaf, LEVELS, n, wavelet, mode)
        torch.autograd.grad([total.approximation, *total.details], leaf, [total.approximation, *total.details])

    return {
        "forward": lambda: dwt(x, LEVELS, n, wavelet, mode),
        "inverse": lambda: idwt(coefficients),
        "forward+backward": both,
    }


def with_ptwt(x: torch.Tensor, wavelet: str, mode: str) -> Calls:
    forward, inverse = {2: (ptwt.wavedec2, ptwt.waverec2), 3: (ptwt.wavedec3, ptwt.waverec3)}[x.ndim - 2]
    own = "zero" if mode == "periodization" else mode
    coefficients = forward(x, wavelet, mode=own, level=LEVELS)

    def both() -> None:
        leaf = x.clone().requires_grad_()
        low, *levels = forward(leaf, wavelet, mode=own, level=LEVELS)
        bands = [low, *(band for level in levels for band in (level.values() if isinstance(level, dict) else level))]
        torch.autograd.grad(bands, leaf, bands)

    return {
        "forward": lambda: forward(x, wavelet, mode=own, level=LEVELS),
        "inverse": lambda: inverse(coefficients, wavelet),
        "forward+backward": both,
    }


def with_pywt(x: torch.Tensor, wavelet: str, mode: str) -> Calls:
    array, axes = x.cpu().numpy(), tuple(range(2, x.ndim))
    coefficients = pywt.wavedecn(array, wavelet, mode, LEVELS, axes)
    return {
        "forward": lambda: pywt.wavedecn(array, wavelet, mode, LEVELS, axes),
        "inverse": lambda: pywt.waverecn(coefficients, wavelet, mode, axes),
    }


def with_pytorch_wavelets(x: torch.Tensor, wavelet: str, mode: str) -> Calls:
    import pytorch_wavelets

    forward = pytorch_wavelets.DWTForward(J=LEVELS, wave=wavelet, mode=mode).to(x.device)
    inverse = pytorch_wavelets.DWTInverse(wave=wavelet, mode=mode).to(x.device)
    coefficients = forward(x)

    def both() -> None:
        leaf = x.clone().requires_grad_()
        low, levels = forward(leaf)
        torch.autograd.grad([low, *levels], leaf, [low, *levels])

    return {"forward": lambda: forward(x), "inverse": lambda: inverse(coefficients), "forward+backward": both}


def peers(x: torch.Tensor, wavelet: str, mode: str) -> dict[str, Calls]:
    if x.dtype not in (torch.float32, torch.float64):
        return {}  # none of them computes in half precision
    found = {"ptwt": with_ptwt(x, wavelet, mode)}
    if x.device.type == "cpu":
        found["PyWavelets"] = with_pywt(x, wavelet, mode)
    if x.ndim == 4:
        try:
            found["pytorch_wavelets"] = with_pytorch_wavelets(x, wavelet, mode)
        except ImportError:
            print("pytorch_wavelets is not installed (pip install -e '.[bench]'): left out", file=sys.stderr)
    return found


def take_turns(calls: Calls, seconds: float, device: str) -> dict[str, list[float]]:
    """Time every call once per turn, after one turn that does not count; at least three turns count."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    started, turn = time.perf_counter(), -1
    while turn < 3 or time.perf_counter() - started < seconds:
        for name, call in calls.items():
            if device == "cuda":
                torch.cuda.synchronize()
            begin = time.perf_counter()
            call()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn >= 0:
                times[name].append(time.perf_counter() - begin)
        turn += 1
    return times


def paired(over: list[float], under: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def table(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, float]]:
    rows, worst, to_ptwt, haar_over_copy = [], math.inf, [], math.nan
    seconds = 0.4 if options.quick else 4.0
    shapes = (SHAPES[0], SHAPES[2]) if options.quick else SHAPES
    if options.device == "cuda":
        shapes = (*shapes, (1, 1, 256, 256, 256))
    generator = torch.Generator().manual_seed(0)
    for shape in shapes:
        x = torch.randn(shape, generator=generator, dtype=getattr(torch, options.dtype)).to(options.device)
        for wavelet in WAVELETS:
            for mode in MODES[:1] if options.quick else MODES:
                others = peers(x, wavelet, mode)
                mine = ours(x, wavelet, mode)
                for operation in OPERATIONS:
                    calls = {"copy": x.clone, "medwvae": mine[operation]}
                    calls |= {name: peer[operation] for name, peer in others.items() if operation in peer}
                    times = take_turns(calls, seconds, options.device)
                    medians = {name: statistics.median(values) * 1e3 for name, values in times.items()}
                    ratio = math.nan
                    if rivals := [name for name in medians if name in PEERS]:
                        fastest = min(rivals, key=medians.__getitem__)
                        ratio = paired(times[fastest], times["medwvae"])
                        worst = min(worst, ratio)
                        to_ptwt.append(paired(times["ptwt"], times["medwvae"]))
                    over_copy = paired(times["medwvae"], times["copy"])
                    if wavelet == "haar" and shape == SHAPES[-1] and operation == "forward" and mode == MODES[0]:
                        haar_over_copy = over_copy
                    rows.append(
                        {
                            "shape": "×".join(map(str, shape)),
                            "wavelet": wavelet,
                            "mode": mode,
                            "operation": operation,
                            "copy ms": medians["copy"],
                            "medwvae ms": medians["medwvae"],
                            **{f"{name} ms": medians.get(name, math.nan) for name in PEERS},
                            "× fastest peer": ratio,
                            "over copy": over_copy,
                        }
                    )
    claims = {} if math.isnan(haar_over_copy) else {"haar3d_forward_over_copy": haar_over_copy}
    if to_ptwt:
        claims["min_ratio_to_fastest_peer"] = worst
        claims["geomean_ratio_to_ptwt"] = statistics.geometric_mean(to_ptwt)
    return rows, claims


def growth(options: argparse.Namespace) -> float:
    """Time per voxel at 256³ over that at 64³, the largest among the wavelets; forward."""
    ratios = []
    for wavelet in WAVELETS:
        calls: Calls = {}
        for size in (64, 256):
            x = torch.randn(1, 1, size, size, size, device=options.device, dtype=getattr(torch, options.dtype))
            calls[str(size)] = lambda x=x, w=wavelet: dwt(x, LEVELS, 3, w)  # type: ignore[misc]
        times = take_turns(calls, 1.0 if options.quick else 6.0, options.device)
        ratios.append(paired(times["256"], times["64"]) / 64)
    return max(ratios)


def peak_memory(options: argparse.Namespace) -> float:
    """Largest peak of forward and inverse at 256³ over the bytes of image and coefficients, in fresh processes."""
    script = str(Path(__file__).resolve())
    command = [sys.executable, script, "--device", options.device, "--dtype", options.dtype, "--peak"]
    peaks = [subprocess.run([*command, w], check=True, capture_output=True, text=True).stdout for w in WAVELETS]
    return max(float(line) for line in peaks)


def print_peak(options: argparse.Namespace) -> None:
    small = torch.randn(1, 1, 16, 16, 16, device=options.device, dtype=getattr(torch, options.dtype))
    idwt(dwt(small, LEVELS, 3, options.peak))  # compiles, so that the compiler's memory does not count
    before = high_water(options.device, reset=True)
    x = torch.ones(1, 1, 256, 256, 256, device=options.device, dtype=getattr(torch, options.dtype))
    coefficients = dwt(x, LEVELS, 3, options.peak)
    io = (x.nbytes + coefficients.approximation.nbytes) + sum(band.nbytes for band in coefficients.details)
    forward = high_water(options.device, reset=False) - before
    del x
    high_water(options.device, reset=True)
    idwt(coefficients)
    inverse = high_water(options.device, reset=False) - before
    print(max(forward, inverse) / io)


def high_water(device: str, reset: bool) -> int:
    """Return the largest memory in use since the last reset, in bytes (Linux for the CPU)."""
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated()
        if reset:
            torch.cuda.reset_peak_memory_stats()
            peak = torch.cuda.memory_allocated()
        return peak
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64", "bfloat16", "float16"))
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")  # the peers' deprecations
    if options.peak:
        print_peak(options)
        return
    rows, claims = table(options)
    claims["time_growth_64_to_256"] = growth(options)
    claims["peak_memory_over_io"] = peak_memory(options)
    publish(rows, claims, options.json)


if __name__ == "__main__":
    main()
