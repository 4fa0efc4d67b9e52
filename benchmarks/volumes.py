"""Networks on volumes: the 3D Wavelet-VAE beside MONAI's BasicUNet and DynUNet (default features) and AutoencoderKL.

`--only` some of the parts; without it all of them, one after another:

speed: training steps and answers by turns in one run; the ratio is the median over the turns. Beside it the shares of
the most that the device can do, a copy and a product of matrices measured in the same turns; on a card also the share
of a step's time in which it computes. restore: a volume from main memory and back, as `medwvae restore` takes it
(planned, in tiles, copied), by one answer or by that of eight mirrored copies. memory: what a network adds to the
memory of a fresh process (its high-water mark; on a card, what PyTorch takes, its reserve included), for one answer and
for one training step. loop: ours by the
training loop of studies, on a card with the share of the time in which it computes (needs nvidia-ml-py). quality:
Rician denoising of synthetic heads, PSNR inside the head of validation subjects after the same seconds of training
each. ceiling: volumes in files, restored under --ceiling by the tiles of `medwvae.inference`.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from _device_limits import asked, busy, by_processor_time, limits, now, timed
from _table import arguments, publish, save
from _volume_networks import NETWORKS, OURS, RIVAL, SIGMA, answering, mixed, network, precision_of, stepping

from medwvae import train as training
from medwvae.data.loaders import Case, PatchSampler
from medwvae.data.phantom.cohort import make_cohort
from medwvae.data.transforms import prepare
from medwvae.degradation import Denoise
from medwvae.errors import MedwvaeError
from medwvae.inference import memory
from medwvae.inference.footprint import measure
from medwvae.inference.whole import from_array, infer, release
from medwvae.operators import Measurement
from medwvae.precision import exact_float32
from medwvae.restore import network_method
from medwvae.train import Settings, Validation, train
from medwvae.volumetric import volumetric

PARTS = ("speed", "restore", "memory", "loop", "quality", "ceiling")
SIZES = {"cpu": (64, 96), "cuda": (128, 256)}
"""Voxels per axis of a training patch and of a volume to answer."""
QUICK = (48, 64)
CEILINGS = ((128, 128, 128), (256, 256, 192), (256, 256, 256), (512, 512, 512))
LOW_CEILINGS = ((96, 96, 96), (224, 128, 128))
WARM = 0.2
"""Of the loop's seconds, before anything is counted."""
Rows, Claims = list[dict[str, Any]], dict[str, float]
Shape, Spacing = tuple[int, int, int], tuple[float, float, float]


# --- speed -----------------------------------------------------------------------------------------------------------


def speed(options: argparse.Namespace) -> tuple[Rows, Claims]:
    """Return a row for each network and kind of work, and the ratios."""
    device, turns = options.device, 3 if options.quick else options.turns
    rows: Rows = []
    claims: Claims = {}
    autocast = mixed(options)
    most = limits(device, autocast.fast_dtype if autocast._enabled else torch.float32)
    for kind, size in zip(("train", "infer"), QUICK if options.quick else SIZES[device], strict=True):
        x = torch.rand(1, 1, size, size, size, device=device)
        calls: dict[str, Callable[[], Any]] = {}
        for name in NETWORKS:
            model = network(name).to(device)
            call = stepping(model.train(), options) if kind == "train" else answering(model.eval(), options)
            calls[name] = partial(call, x)
        times: dict[str, list[float]] = {name: [] for name in calls}
        reached: dict[str, list[float]] = {name: [] for name in most}
        for turn in range(turns + 1):
            for name, call in calls.items():
                times[name].append(timed(call, device))
            for name, rate in most.items():
                reached[name].append(rate())
            if not turn:  # what is compiled and loaded on first use is not the network's
                for figures in (*times.values(), *reached.values()):
                    figures.clear()
        copy, matrix = (statistics.median(reached[name]) for name in ("copy", "matrix"))
        for name, call in calls.items():
            operations, moved = asked(call)
            seconds = statistics.median(times[name])
            rows.append(
                {
                    "network": name, "work": f"{kind} {size}³", "Mvoxel/s": 1e-6 * size**3 / seconds,
                    "× BasicUNet": _ratio(times, name), "ms": 1e3 * seconds, "Gflop": 1e-9 * operations,
                    "of the matrix rate": operations / seconds / matrix,
                    "of the copy rate": moved / seconds / copy,
                    **({"card busy in a call": busy(call)} if device == "cuda" else {}),
                }
            )  # fmt: skip
        claims[f"{kind}_ratio_to_basicunet"] = _ratio(times, OURS)
        for other in NETWORKS[2:]:
            claims[f"{kind}_ratio_to_{other}"] = _ratio(times, OURS) / _ratio(times, other)
        claims |= {f"{kind}_copy_gb_per_s": 1e-9 * copy, f"{kind}_matrix_tflop_per_s": 1e-12 * matrix}
    return rows, claims


def _ratio(times: dict[str, list[float]], name: str) -> float:
    return statistics.median(u / s for u, s in zip(times[RIVAL], times[name], strict=True))


def restoration(options: argparse.Namespace) -> tuple[Rows, Claims]:
    """Return a row for ours and for BasicUNet, and the seconds of a volume."""
    size, turns = (QUICK if options.quick else SIZES[options.device])[1], 1 if options.quick else 3
    noisy = Measurement(torch.rand(size, 1, size, size), sigma=torch.full((1, 1, 1, 1), SIGMA))
    rows: Rows = []
    claims: Claims = {}
    for name in (OURS, RIVAL):
        row: dict[str, Any] = {"network": name, "work": f"restore {size}³"}
        for mirrored, words in ((False, "s a volume"), (True, "s, mirrored")):
            call = network_method(
                network(name), self_ensemble=mirrored, batch=1, precision=precision_of(options), device=options.device
            )
            call(noisy)  # finds the footprint, and loads what is loaded on first use
            row[words] = statistics.median(timed(partial(call, noisy), options.device) for _ in range(turns))
        rows.append(row)
    claims["restore_seconds"], claims["restore_seconds_mirrored"] = rows[0]["s a volume"], rows[0]["s, mirrored"]
    claims["restore_ratio_to_basicunet"] = rows[1]["s a volume"] / rows[0]["s a volume"]
    return rows, claims


# --- memory, in fresh processes --------------------------------------------------------------------------------------


def child(options: argparse.Namespace, **task: Any) -> dict[str, Any]:
    """Run a part of this benchmark in a fresh process and return its answer."""
    command = [sys.executable, str(Path(__file__).resolve()), "--device", options.device, "--child", json.dumps(task)]
    command += ["--threads", str(options.threads), "--precision", options.precision, "--ceiling", options.ceiling]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    answer: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return answer


def high_water(device: str) -> int:
    return torch.cuda.max_memory_reserved() if device == "cuda" else memory.peak()


def peak_of(options: argparse.Namespace, name: str, kind: str, size: int) -> dict[str, Any]:
    """Return what one call of a network adds to the memory of this process, and the high-water mark, in bytes."""
    model = network(name).to(options.device)
    x = torch.rand(1, 1, size, size, size, device=options.device)
    call = stepping(model.train(), options) if kind == "train" else answering(model.eval(), options)
    call(x[..., :32, :32, :32])  # what is loaded and compiled on first use is not the network's
    before = memory.resident()
    if options.device == "cuda":
        torch.cuda.empty_cache()
        before = torch.cuda.memory_reserved()
    call(x)
    return {"added": high_water(options.device) - before, "peak": high_water(options.device)}


def memory_of_each(options: argparse.Namespace) -> tuple[Rows, Claims]:
    """Return a row for each network, and our share of what BasicUNet takes."""
    sizes = (48, 96) if options.quick else SIZES[options.device]
    names = NETWORKS[:2] if options.quick else NETWORKS
    work = [(name, *kind) for name in names for kind in zip(("train", "infer"), sizes, strict=True)]
    # Side by side on a CPU: memory is not time.
    with ThreadPoolExecutor(options.threads if options.device == "cpu" else 1) as pool:
        found = list(pool.map(lambda w: child(options, job="peak", name=w[0], kind=w[1], size=w[2]), work))
    peaks = {(name, kind): peak for (name, kind, _), peak in zip(work, found, strict=True)}
    rows: Rows = [
        {
            "network": name,
            "parameters": sum(p.numel() for p in network(name).parameters()),
            **{f"{kind} {size}³ MiB": peaks[name, kind]["added"] / 2**20
               for kind, size in zip(("train", "infer"), sizes, strict=True)},
        }
        for name in names
    ]  # fmt: skip
    shares = {kind: peaks[OURS, kind]["added"] / peaks[RIVAL, kind]["added"] for kind in ("train", "infer")}
    claims = {f"{kind}_memory_ratio_to_basicunet": share for kind, share in shares.items()}
    return rows, claims | {"memory_ratio_to_basicunet": max(shares.values())}


# --- training by the project's own loop ------------------------------------------------------------------------------


def heads(options: argparse.Namespace, folder: Path, subjects: int, shape: Shape, spacing: Spacing) -> list[Case]:
    """Return synthetic heads, prepared."""
    files = make_cohort(
        folder / "phantom", subjects=subjects, seed=1, shape=shape, spacing=spacing, file_format="nifti",
        workers=options.threads,
    )  # fmt: skip
    ready = (prepare(file, modality="MR", plane="axial", percentile=99) for file in files)
    return [Case(str(k), str(k), "t1w", prepared) for k, prepared in enumerate(ready)]


def settings(options: argparse.Namespace, seconds: float) -> Settings:
    """Return how studies train volumes: by Muon, two patches a step."""
    return Settings(
        seconds=seconds, steps=None, batch=2, learning_rate=4e-3, weight_decay=1e-4, warmup=0.03, clip=1.0,
        ema=0.999, validations=4, patience=0, loss="l1", checkpoint_seconds=1e9, seed=1,
        precision=precision_of(options), accelerator=options.device, optimiser="muon", matrix_rate=2.5,
    )  # fmt: skip


class Watch:
    """Counts the steps of a training, their time and the card's load; called after every step."""

    def __init__(self) -> None:
        self.began = self.ended = 0.0
        self.steps = 0
        self.load: list[float] = []

    def __call__(self, fraction: float, figures: dict[str, float]) -> None:
        """See `medwvae.train.Report`."""
        if fraction < WARM or not self.began:  # what is compiled and loaded on first use is not the loop's
            self.began = now()
        elif fraction < 1:  # the last step's time is also that of the validation
            self.steps, self.ended = self.steps + 1, now()
            self.load += [percent for name, percent in figures.items() if name == "card_busy_percent"]


def loop(options: argparse.Namespace) -> tuple[Rows, Claims]:
    """Train from prepared volumes by the loop of studies: drawing, noise, steps, averaging; nothing is left out."""
    size = QUICK[0] if options.quick else SIZES[options.device][0]
    watch, how = Watch(), replace(settings(options, options.loop_seconds), validations=1)
    with tempfile.TemporaryDirectory() as folder:
        cases = heads(options, Path(folder), 3, (size + 16, size + 32, size + 16), (160 / size, 160 / size, 160 / size))
        validation = Validation(cases[2:], Denoise(SIGMA), 32, 1, depth=32)
        sampler, degrade = PatchSampler(cases[:2], (size, size, size)), volumetric(Denoise(SIGMA))
        train(partial(network, OURS), sampler, degrade, validation, how, Path(folder, "state"), watch)
    if not watch.steps:
        raise SystemExit("no step was measured; give more --loop-seconds")
    rate = 1e-6 * watch.steps * how.images_per_step * size**3 / (watch.ended - watch.began)
    row: dict[str, Any] = {"network": OURS, "work": f"loop {size}³", "steps": watch.steps, "Mvoxel/s": rate}
    claims = {"loop_mvoxel_per_s": rate}
    if watch.load:
        row["card busy"] = claims["loop_card_busy"] = statistics.mean(watch.load) / 100
    elif options.device == "cuda":
        print("how busy the card is in the loop: not known without nvidia-ml-py (the extra `cuda`)", file=sys.stderr)
    return [row], claims


# --- quality ---------------------------------------------------------------------------------------------------------


def quality(options: argparse.Namespace) -> tuple[Rows, Claims]:
    """Train on the same patches for the same seconds; return PSNR inside the head of other subjects.

    AutoencoderKL is left out: it is made to give back what it gets through a narrow latent, not to take noise out.
    """
    # As studies train: Muon for all. MONAI's also by AdamW, and the better of the two counts.
    muon = settings(options, options.seconds)
    adamw = replace(muon, optimiser="adamw", matrix_rate=1.0, learning_rate=1e-3)
    ways = {OURS: (muon,), RIVAL: (muon, adamw), "dyn_unet": (muon, adamw)}
    rows: Rows = []
    best: Claims = {}
    with tempfile.TemporaryDirectory() as folder:
        cases = heads(options, Path(folder), 8, (112, 128, 64), (1.7, 1.7, 2.4))
        degrade = Denoise(SIGMA)
        validation = Validation(cases[6:], degrade, 32, 1, depth=32)
        for name, way in [(own, way) for own in ways for way in ways[own]]:
            _, progress, _ = train(
                partial(network, name), PatchSampler(cases[:6], (48, 64, 64)), volumetric(degrade), validation, way,
                Path(folder, f"{name}-{way.optimiser}"),
            )  # fmt: skip
            rows.append(
                {
                    "network": name, "optimiser": way.optimiser, "seconds": progress.seconds,
                    "steps": progress.step, "PSNR dB": progress.best,
                }
            )  # fmt: skip
            print(rows[-1], file=sys.stderr, flush=True)
            best[name] = max(best.get(name, -np.inf), progress.best)
    ahead = {name: best[OURS] - best[name] for name in ways if name != OURS}
    return rows, {"psnr_ahead_of_basicunet": ahead.pop(RIVAL)} | {f"psnr_ahead_of_{n}": by for n, by in ahead.items()}


# --- the ceiling -----------------------------------------------------------------------------------------------------


def under_ceiling(options: argparse.Namespace, shape: list[int], check: bool) -> dict[str, Any]:
    """Restore a volume in files under the ceiling; `check` compares it with the same without tiles, at the end."""
    model = network(OURS).eval()
    torch.nn.init.normal_(model.encoders[0].head.weight, std=0.02)  # an untrained head is silent
    options.precision = "32-true"
    exact_float32(options.precision)
    answer = answering(model, options)
    footprint = measure(answer, model.alignment())  # on the CPU, as restoring does
    model.to(options.device)
    with tempfile.TemporaryDirectory() as folder:
        source, out = (
            np.lib.format.open_memmap(Path(folder, name), "w+", np.float32, (1, *shape))
            for name in ("in.npy", "out.npy")
        )
        rng = np.random.default_rng(0)
        for section in source[0]:
            section[:] = rng.random(section.shape, np.float32)
        release(source)  # what was written is the file's, not this process's
        started = time.perf_counter()
        try:
            plan = infer(
                answer, from_array(source), out, footprint, device=options.device,
                max_memory=memory.parse_size(options.ceiling),
            )  # fmt: skip
        except MedwvaeError as error:
            return {"error": str(error)}
        seconds = time.perf_counter() - started
        found = {
            "peak": high_water(options.device), "tiles": plan.count, "exact": plan.exact, "seconds": seconds,
            "read": plan.read / np.prod(shape),
        }  # fmt: skip
        if check:
            whole = answer(torch.from_numpy(np.array(source))[None].to(options.device))[0].cpu().numpy()
            found["difference"] = float(np.abs(whole - out).max())
    return found


def ceiling(options: argparse.Namespace) -> tuple[Rows, Claims]:
    """Return a row for each volume under the ceiling."""
    rows: Rows = []
    claims: Claims = {}
    differences: list[float] = []
    limit = memory.parse_size(options.ceiling)
    shapes = sorted(options.shapes or (LOW_CEILINGS if options.quick else CEILINGS), key=math.prod)
    checked = shapes if options.check else shapes[:2]  # the whole at once takes memory and time
    for shape in shapes:
        found = child(options, job="ceiling", shape=shape, check=shape in checked)
        if "error" in found:
            raise SystemExit(f"{shape}: {found['error']}")
        rows.append(
            {
                "volume": "x".join(map(str, shape)), "tiles": found["tiles"], "read / volume": found["read"],
                "exact": found["exact"], "peak MiB": found["peak"] / 2**20, "of the ceiling": found["peak"] / limit,
                "Mvoxel/s": 1e-6 * float(np.prod(shape)) / found["seconds"],
            }
        )  # fmt: skip
        if "difference" in found:
            differences.append(found["difference"])
    claims["difference_to_untiled"] = max(differences)
    claims |= {f"peak_mib_{row['volume']}": row["peak MiB"] for row in rows}
    claims["largest_peak_over_ceiling"] = max(row["of the ceiling"] for row in rows)
    if len(rows) > 1:
        claims["peak_growth_to_largest_volume"] = rows[-1]["peak MiB"] / rows[-2]["peak MiB"]
    return rows, claims


def shapes(text: str) -> tuple[tuple[int, ...], ...]:
    """Read '256x256x192,512x512x512'."""
    return tuple(tuple(map(int, one.split("x"))) for one in text.split(","))


def main(words: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure; default all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="auto", choices=("auto", "32-true", "bf16-mixed", "16-mixed"))
    parser.add_argument("--turns", type=int, default=9, help="turns of the speed; quick 3")
    parser.add_argument("--loop-seconds", type=float, help="training of the loop; default 30, quick 6")
    parser.add_argument("--seconds", type=float, help="each training of the quality; default 120, quick 0: none")
    parser.add_argument("--ceiling", help="memory for the volumes in files; default 2 GiB, quick 1.25 GiB")
    parser.add_argument("--shapes", type=shapes, help="volumes under the ceiling, as 256x256x192,512x512x512")
    parser.add_argument("--check", action="store_true", help="compare all of them with the whole at once, not two")
    parser.add_argument("--busy", action="store_true", help="beside other jobs: one thread, and its own time counts")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.busy:
        options.threads = 1
        by_processor_time()
        training.time = SimpleNamespace(monotonic=time.process_time)  # type: ignore[assignment]
    exact_float32(precision_of(options))
    torch.set_num_threads(options.threads)
    options.ceiling = options.ceiling or ("1.25 GiB" if options.quick else "2 GiB")
    if options.child:
        task = json.loads(options.child)
        job = {"peak": peak_of, "ceiling": under_ceiling}[task.pop("job")]
        print(json.dumps(job(options, **task)))
        return
    if options.seconds is None:
        options.seconds = 0.0 if options.quick else 120.0
    options.loop_seconds = options.loop_seconds or (6.0 if options.quick else 30.0)
    parts = {
        "speed": speed,
        "restore": restoration,
        "memory": memory_of_each,
        "loop": loop,
        "quality": quality,
        "ceiling": ceiling,
    }
    tables: list[tuple[Rows, Claims]] = [
        parts[name](options) for name in options.only if name != "quality" or options.seconds
    ]
    for rows, _ in tables[:-1]:
        publish(rows, {}, None)
    claims = {name: value for _, own in tables for name, value in own.items()}
    publish(tables[-1][0], claims, None)
    if options.json is not None:
        save([row for rows, _ in tables for row in rows], claims, options.json)


if __name__ == "__main__":
    main()
