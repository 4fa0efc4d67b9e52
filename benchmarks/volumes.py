"""Networks on volumes: the 3D Wavelet-VAE beside MONAI's BasicUNet (default features) and AutoencoderKL.

Speed: training steps and answers by turns in one run, the ratio is the median over the turns. Memory: what a network
adds to the memory of a fresh process (its high-water mark; on a card, PyTorch's), for one answer and for one training
step. Quality: Rician denoising of synthetic heads, PSNR inside the head of validation subjects after the same seconds
of training each. The ceiling: volumes in files, restored under --ceiling by the tiles of `medwvae.inference`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _table import arguments, publish
from torch import Tensor

from medwvae.errors import MedwvaeError
from medwvae.inference import memory
from medwvae.inference.footprint import measure
from medwvae.inference.whole import from_array, infer
from medwvae.nets.restorer import Estimate, Restorer
from medwvae.nets.unet import UNet
from medwvae.nets.wavelet_vae import WaveletVAE
from medwvae.operators import Measurement
from medwvae.train import best_precision

SIGMA = 0.05
OURS, RIVAL = "wavelet_vae", "basic_unet"
NETWORKS = (OURS, RIVAL, "autoencoder_kl")
CEILINGS = ((128, 128, 128), (256, 256, 192), (256, 256, 256), (512, 512, 512))


class Autoencoder(Restorer):
    """MONAI's AutoencoderKL as a network on volumes: image + KL, no data consistency."""

    dims = 3

    def __init__(self) -> None:
        super().__init__()
        from monai.networks.nets.autoencoderkl import AutoencoderKL

        self.body = AutoencoderKL(
            spatial_dims=3, in_channels=1, out_channels=1, channels=(32, 64, 64), num_res_blocks=(1, 1, 1),
            attention_levels=(False,) * 3, latent_channels=3, norm_num_groups=16, with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
        )  # fmt: skip

    def alignment(self) -> tuple[int, ...]:
        """See `Restorer.alignment`."""
        return (4,) * 3

    def forward(self, measurement: Measurement, truth: Tensor | None = None) -> Estimate:
        """See `Restorer.forward`."""
        image, mean, sigma = self.body(measurement.start)
        kl = 0.5 * (mean.square() + sigma.square() - 2 * sigma.log() - 1).mean()
        return Estimate(image.float(), 1e-6 * kl)


def network(name: str) -> Restorer:
    torch.manual_seed(0)
    if name == OURS:
        return WaveletVAE(dims=3, conditions=1, blocks=1)
    if name == RIVAL:
        return UNet(dims=3, conditions=1, features=(32, 32, 64, 128, 256, 32))
    return Autoencoder()


def measured(start: Tensor) -> Measurement:
    return Measurement(start, sigma=torch.full((1, 1, 1, 1, 1), SIGMA, device=start.device))


def mixed(options: argparse.Namespace) -> torch.autocast:
    precision = best_precision(options.device) if options.precision == "auto" else options.precision
    kind = torch.float16 if precision == "16-mixed" else torch.bfloat16
    return torch.autocast(options.device, kind, enabled=precision != "32-true")


def answering(model: Restorer, options: argparse.Namespace) -> Callable[[Tensor], Tensor]:
    def answer(x: Tensor) -> Tensor:
        with torch.no_grad(), mixed(options):
            return model(measured(x)).image

    return answer


def stepping(model: Restorer, options: argparse.Namespace) -> Callable[[Tensor], None]:
    optimiser = torch.optim.AdamW(model.parameters())

    def step(x: Tensor) -> None:
        with mixed(options):
            estimate = model(measured(x + 0.1), x)
        loss = (estimate.image - x).abs().mean() + estimate.penalty
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step


# --- speed -----------------------------------------------------------------------------------------------------------


def speeds(options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Return seconds per turn of every network, for training and for answers."""
    patch, volume, turns = (48, 64, 3) if options.quick else (64, 128, 15)
    found = {}
    for kind, size in (("train", patch), ("infer", volume)):
        models = {name: network(name).to(options.device) for name in NETWORKS}
        calls: dict[str, Callable[[Tensor], Any]] = {
            name: stepping(model.train(), options) if kind == "train" else answering(model.eval(), options)
            for name, model in models.items()
        }
        x = torch.rand(1, 1, size, size, size, device=options.device)
        times: dict[str, list[float]] = {name: [] for name in NETWORKS}
        for turn in range(turns + 1):
            for name, call in calls.items():
                started = time.perf_counter()
                call(x)
                if options.device == "cuda":
                    torch.cuda.synchronize()
                if turn:
                    times[name].append((time.perf_counter() - started) / size**3)
        found[kind] = times
    return found


# --- memory, in fresh processes --------------------------------------------------------------------------------------


def child(options: argparse.Namespace, **task: Any) -> dict[str, Any]:
    """Run a part of this benchmark in a fresh process and return its answer."""
    command = [sys.executable, str(Path(__file__).resolve()), "--device", options.device, "--child", json.dumps(task)]
    command += ["--threads", str(options.threads), "--precision", options.precision, "--ceiling", options.ceiling]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    answer: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return answer


def high_water(device: str) -> int:
    return torch.cuda.max_memory_allocated() if device == "cuda" else memory.peak()


def peak_of(options: argparse.Namespace, name: str, kind: str, size: int) -> dict[str, Any]:
    model = network(name).to(options.device)
    x = torch.rand(1, 1, size, size, size, device=options.device)
    call: Callable[[Tensor], Any] = stepping(model, options) if kind == "train" else answering(model.eval(), options)
    call(x[..., :32, :32, :32])  # what is loaded and compiled on first use is not the network's
    before = torch.cuda.memory_allocated() if options.device == "cuda" else memory.resident()
    call(x)
    return {"added": high_water(options.device) - before, "peak": high_water(options.device)}


def under_ceiling(options: argparse.Namespace, shape: list[int], check: bool) -> dict[str, Any]:
    """Restore a volume in files under the ceiling; `check` compares it with the same without tiles, at the end."""
    model = network(OURS).eval().to(options.device)
    torch.nn.init.normal_(model.encoders[0].head.weight, std=0.02)  # an untrained head is silent
    options.precision = "32-true"
    answer = answering(model, options)
    with tempfile.TemporaryDirectory() as folder:
        source, out = (
            np.lib.format.open_memmap(Path(folder, name), "w+", np.float32, (1, *shape))
            for name in ("in.npy", "out.npy")
        )
        rng = np.random.default_rng(0)
        for section in source[0]:
            section[:] = rng.random(section.shape, np.float32)
        footprint = measure(lambda x: answer(x.to(options.device)), model.alignment())
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


# --- quality ---------------------------------------------------------------------------------------------------------


def quality(options: argparse.Namespace) -> dict[str, float]:
    """Train on the same patches for the same seconds; return PSNR inside the head of other subjects."""
    from medwvae.data.loaders import Case, PatchSampler
    from medwvae.data.phantom.cohort import make_cohort
    from medwvae.data.transforms import prepare
    from medwvae.degradation import Denoise
    from medwvae.train import Settings, Validation, train
    from medwvae.volumetric import volumetric

    settings = Settings(
        seconds=options.seconds, steps=None, batch=2, learning_rate=4e-3, weight_decay=1e-4, warmup=0.03, clip=1.0,
        ema=0.999, validations=4, patience=0, loss="l1", checkpoint_seconds=1e9, seed=1, precision=options.precision,
        accelerator=options.device,
    )  # fmt: skip
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        files = make_cohort(
            Path(folder, "phantom"), subjects=8, seed=1, shape=(112, 128, 64), spacing=(1.7, 1.7, 2.4),
            file_format="nifti", workers=options.threads,
        )  # fmt: skip
        ready = [prepare(file, modality="MR", plane="axial", percentile=99) for file in files]
        cases = [Case(str(k), str(k), "t1w", prepared) for k, prepared in enumerate(ready)]
        degrade = Denoise(SIGMA)
        validation = Validation(cases[6:], degrade, 32, 1, depth=32)
        for name in (OURS, RIVAL):
            rate = settings.learning_rate if name == OURS else 1e-3  # BasicUNet does not survive ours
            _, progress, _ = train(
                lambda name=name: network(name), PatchSampler(cases[:6], (32, 64, 64)), volumetric(degrade), validation,
                replace(settings, learning_rate=rate), Path(folder, name),
            )  # fmt: skip
            found[name] = progress.best
    return found


# --- the table -------------------------------------------------------------------------------------------------------


def ratio(times: dict[str, list[float]], name: str) -> float:
    return statistics.median(u / s for u, s in zip(times[RIVAL], times[name], strict=True))


def compare(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, float]]:
    times = speeds(options)
    patch, volume = (48, 96) if options.quick else (96, 128)
    scores = quality(options) if options.seconds else {}
    rows: list[dict[str, Any]] = []
    work = [(name, *kind) for name in NETWORKS for kind in (("train", patch), ("infer", volume))]
    # Side by side on a CPU: memory is not time.
    with ThreadPoolExecutor(options.threads if options.device == "cpu" else 1) as pool:
        found = pool.map(lambda w: child(options, job="peak", name=w[0], kind=w[1], size=w[2]), work)
        peaks: dict[str, dict[str, Any]] = {name: {} for name in NETWORKS}
        for (name, kind, _), peak in zip(work, found, strict=True):
            peaks[name][kind] = peak
    for name in NETWORKS:
        rows.append(
            {
                "network": name,
                "parameters": sum(p.numel() for p in network(name).parameters()),
                "train Mvoxel/s": 1e-6 / statistics.median(times["train"][name]),
                "infer Mvoxel/s": 1e-6 / statistics.median(times["infer"][name]),
                f"train {patch}³ MiB": peaks[name]["train"]["added"] / 2**20,
                f"infer {volume}³ MiB": peaks[name]["infer"]["added"] / 2**20,
                "PSNR dB": scores.get(name, ""),
            }
        )
    claims = {
        "train_ratio_to_basicunet": ratio(times["train"], OURS),
        "infer_ratio_to_basicunet": ratio(times["infer"], OURS),
        "memory_ratio_to_basicunet": max(
            peaks[OURS][kind]["added"] / peaks[RIVAL][kind]["added"] for kind in ("train", "infer")
        ),
        "train_ratio_to_autoencoder_kl": ratio(times["train"], OURS) / ratio(times["train"], "autoencoder_kl"),
        "infer_ratio_to_autoencoder_kl": ratio(times["infer"], OURS) / ratio(times["infer"], "autoencoder_kl"),
    }
    if scores:
        claims["psnr_ahead_of_basicunet"] = scores[OURS] - scores[RIVAL]
    return rows, claims


def bounded(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Return a row for each volume under the ceiling."""
    rows, claims, limit = [], {}, memory.parse_size(options.ceiling)
    shapes = ((96, 96, 96), (224, 128, 128)) if options.quick else CEILINGS
    for shape in shapes:
        found = child(options, job="ceiling", shape=shape, check=shape == shapes[1])
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
            claims["difference_to_untiled"] = found["difference"]
    claims |= {f"peak_mib_{row['volume']}": row["peak MiB"] for row in rows}
    claims["largest_peak_over_ceiling"] = max(row["of the ceiling"] for row in rows)
    claims["peak_growth_to_largest_volume"] = rows[-1]["peak MiB"] / rows[-2]["peak MiB"]
    return rows, claims


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="auto", choices=("auto", "32-true", "bf16-mixed", "16-mixed"))
    parser.add_argument("--ceiling", help="memory for the volumes in files; default 2 GiB, quick 1.25 GiB")
    parser.add_argument("--seconds", type=float, help="training of each network for the quality; default 120, quick 0")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.ceiling = options.ceiling or ("1.25 GiB" if options.quick else "2 GiB")
    if options.child:
        task = json.loads(options.child)
        job = {"peak": peak_of, "ceiling": under_ceiling}[task.pop("job")]
        print(json.dumps(job(options, **task)))
        return
    if options.seconds is None:
        options.seconds = 0.0 if options.quick else 120.0
    rows, claims = compare(options)
    tiled, more = bounded(options)
    publish(tiled, {}, None)
    publish(rows, claims | more, options.json)


if __name__ == "__main__":
    main()
