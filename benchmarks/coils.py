"""Real k-space of several coils, undersampled by the scanner: zero-filled, L1-wavelet ESPIRiT (SigPy), and our network.

    python benchmarks/coils.py brain_8ch_cartesian_undersampled.npy --run results/benchmark --figure coils.png

Needs the extra `mri`. The file holds complex k-space (coils, H, W), its zero frequency in the middle, zeros where
nothing was measured. Nobody knows the true image, so methods are judged by samples that they were not given: a tenth of
those outside the calibration block are held out, and the error is that of predicting them in all coils,
‖M(FSx − y)‖ / ‖My‖. The weight of L1 is chosen on another tenth, and so is how closely a network keeps to the given
samples: they are noisy, and an image that agrees with them exactly carries their noise, amplified. What is chosen is a
noise level (`Measurement.noise`, relative to its unit of intensity), which only networks that met noise are told. The
maps come from the calibration block, by ESPIRiT, and serve all methods. The network is that of a run's task `recon`,
trained on other images; its unit of intensity is taken from the zero-filled image. The figure shows the images from all
samples.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _table import arguments, publish
from matplotlib.figure import Figure
from torch import Tensor

from medwvae.config import ReconConfig
from medwvae.config_io import load
from medwvae.files import atomic
from medwvae.inference.restorers import mirrored
from medwvae.operators import CoilSampling, Measurement, espirit_maps, from_centred
from medwvae.operators.fourier import low_frequency_phasor
from medwvae.precision import best_precision
from medwvae.report.words import label
from medwvae.stages.training import trained

HELD = 0.1
WEIGHTS = (0.0003, 0.001, 0.003, 0.01, 0.03)
"""Of L1, to choose from, where the zero-filled image has a maximum of 1."""
LEVELS = (0.0, 0.002, 0.004, 0.006, 0.009, 0.012, 0.016, 0.02, 0.03)
"""Of noise, to choose from; 0 is agreement with every sample."""
ITERATIONS = 50
OBJECT = 0.1
"""What is brighter than this share of the maximum is no air."""

Recon = Callable[[Tensor, Tensor], Tensor]
"""K-space (1, coils, H, W) and mask (1, 1, H, W) in FFT order to a complex image (1, 1, H, W)."""


@dataclass(frozen=True)
class Untold(Measurement):
    """For networks that never met noise: they agree with its samples as far as they are trusted, and are told none."""

    def conditions(self) -> Tensor:
        """See `Measurement.conditions`."""
        found = super().conditions()
        return torch.cat((torch.zeros_like(found[:, :1]), found[:, 1:]), dim=1)


def calibration_width(mask: Tensor) -> int:
    """Return the side of the largest fully sampled central square; `mask` in FFT order."""
    centred = torch.fft.fftshift(mask[0, 0])
    middle = [size // 2 for size in centred.shape]
    width = 2
    while width + 2 <= min(centred.shape):
        half = width // 2 + 1
        if not centred[middle[0] - half : middle[0] + half, middle[1] - half : middle[1] + half].all():
            break
        width += 2
    return width


def parts_of(mask: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the samples that are given, those that weights are chosen on, and those that are held out."""
    rng = np.random.default_rng(0)
    far = torch.zeros_like(mask)
    for axis in (-2, -1):
        frequency = torch.fft.fftfreq(mask.shape[axis], 1 / mask.shape[axis]).abs() >= width / 2
        far = far | frequency.reshape(-1, *[1] * (-axis - 1))
    drawn = torch.from_numpy(rng.random(tuple(mask.shape)))
    tuned, held = mask & far & (drawn < HELD), mask & far & (drawn >= HELD) & (drawn < 2 * HELD)
    return mask & ~tuned & ~held, tuned, held


def error(image: Tensor, kspace: Tensor, maps: Tensor, places: Tensor) -> float:
    """‖M(FSx − y)‖ / ‖My‖ at the samples of a mask."""
    found = CoilSampling(places, maps, 2).forward(torch.cat((image.real, image.imag), dim=1))
    known = torch.where(places, kspace, 0)
    return float((found - known).norm() / known.norm())


def measured(
    kspace: Tensor, mask: Tensor, maps: Tensor, width: int, noise: float, kind: type[Measurement]
) -> Measurement:
    """Return the zero-filled, demodulated measurement."""
    given = torch.where(mask, kspace, 0)
    sampling = CoilSampling(mask, maps, 2, low_frequency_phasor(given, width, width, maps))
    told = torch.full((1, 1, 1, 1), noise) if noise else None
    return kind(sampling.adjoint(given), sampling, given, noise=told)


def zero_filled(kspace: Tensor, mask: Tensor, maps: Tensor) -> Tensor:
    """Return the combined inverse of what was measured, nothing in between."""
    both = CoilSampling(mask, maps, 2).adjoint(torch.where(mask, kspace, 0))
    return torch.complex(both[:, :1], both[:, 1:])


def l1_wavelet(centred: Tensor, mask: Tensor, maps: Tensor, weight: float) -> Tensor:
    """Return SigPy's reconstruction: SENSE with the L1 norm of wavelet coefficients (Lustig 2007, Uecker 2014).

    From k-space as the file has it, (1, coils, H, W): so the head lies in the middle, and wavelets meet it whole.
    """
    from sigpy.mri.app import L1WaveletRecon

    given = torch.fft.fftshift(mask, dim=(-2, -1))
    scale = float(zero_filled(from_centred(centred), mask, maps).abs().max())
    data = (torch.where(given, centred, 0) / scale)[0].numpy()
    sampled = given[0, 0].numpy().astype(np.float32)
    image = L1WaveletRecon(data, maps[0].numpy(), weight, sampled, max_iter=ITERATIONS, show_pbar=False).run()
    return torch.from_numpy(np.asarray(image))[None, None] * scale


def by_network(
    options: argparse.Namespace, name: str, maps: Tensor, width: int
) -> Callable[[Tensor, Tensor, float], Tensor]:
    """Return the reconstruction by the run's network, of a slice that is its own neighbour."""
    config = load([options.run / "config.yaml"], {"results": str(options.run.parent), "run": options.run.name})
    model = trained(config, "recon", name)[0]
    met = any(isinstance(one.section, ReconConfig) and one.section.noise > 0 for one in config.problems_of("recon"))
    kind = Measurement if met else Untold
    flips = mirrored(2) if config.restore.mirrors("recon") else ((),)
    mixed = best_precision("cpu") == "bf16-mixed"

    def reconstruct(kspace: Tensor, mask: Tensor, noise: float) -> Tensor:
        start = zero_filled(kspace, mask, maps).abs()
        unit = float(np.percentile(start[start > OBJECT * start.max()].numpy(), config.preprocess.percentile))
        measurement = measured(kspace / unit, mask, maps, width, noise, kind).with_neighbours(model.neighbours)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            both = model.restore(measurement, flips)
        return torch.complex(both[:, :1], both[:, 1:]) * measurement.phasor * unit

    return reconstruct


def timed(method: Recon, kspace: Tensor, mask: Tensor) -> tuple[Tensor, float]:
    started = time.perf_counter()
    image = method(kspace, mask)
    return image, time.perf_counter() - started


def figure(images: dict[str, Tensor], detail: float = 0.4) -> Figure:
    """Return the images and, below, their middle."""
    made = Figure(figsize=(3.2 * len(images), 6.4), layout="constrained")
    axes = made.subplots(2, len(images), squeeze=False)
    for column, (name, image) in zip(axes.T, images.items(), strict=True):
        shown = image[0, 0].abs().numpy()
        rows, columns = (slice(int(n * (0.5 - detail / 2)), int(n * (0.5 + detail / 2))) for n in shown.shape)
        top = float(np.percentile(shown, 99.7))
        for axis, picture in zip(column, (shown, shown[rows, columns]), strict=True):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=top)
            axis.axis("off")
        column[0].set_title(name)
    return made


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("kspace", type=Path, help="complex (coils, H, W), NumPy")
    parser.add_argument("--run", type=Path, help="folder of a finished run with the task recon")
    parser.add_argument("--network", nargs="+", default=["wavelet_vae"], help="of the run")
    parser.add_argument("--figure", type=Path, help="write the images to this PNG")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    centred = torch.from_numpy(np.load(options.kspace).astype(np.complex64))[None]
    kspace = from_centred(centred)
    mask = (kspace != 0).any(1, keepdim=True)
    width = calibration_width(mask)
    given, tuned, held = parts_of(mask, width)
    started = time.perf_counter()
    maps = espirit_maps(kspace, width)
    of_maps = time.perf_counter() - started
    weights = WEIGHTS[1:4] if options.quick else WEIGHTS
    errors = {weight: error(l1_wavelet(centred, given, maps, weight), kspace, maps, tuned) for weight in weights}
    chosen = min(errors, key=errors.__getitem__)
    weight_of = {"L1-wavelet ESPIRiT": chosen}
    methods: dict[str, Recon] = {
        "Zero-filled": lambda y, m: zero_filled(y, m, maps),
        "L1-wavelet ESPIRiT": lambda y, m: l1_wavelet(centred, m, maps, chosen),
    }
    if options.run is not None:
        levels = LEVELS[::3] if options.quick else LEVELS
        for name in options.network:
            network = by_network(options, name, maps, width)
            off = {level: error(network(kspace, given, level), kspace, maps, tuned) for level in levels}
            weight_of[label(name)] = min(off, key=off.__getitem__)
            methods[label(name)] = partial(network, noise=weight_of[label(name)])
    rows: list[dict[str, Any]] = []
    images = {}
    for name, method in methods.items():
        image, _ = timed(method, kspace, given)
        images[name], seconds = timed(method, kspace, mask)
        rows.append(
            {
                "method": name, "weight or noise": weight_of.get(name), "seconds": seconds,
                "error at held-out samples": error(image, kspace, maps, held),
                "error at given samples": error(images[name], kspace, maps, mask),
            }
        )  # fmt: skip
    found = {row["method"]: row["error at held-out samples"] for row in rows}
    claims = {"measured_share": float(mask.float().mean()), "calibration_width": width, "seconds_of_maps": of_maps}
    claims |= {"l1_weight": chosen, "error_l1": found["L1-wavelet ESPIRiT"]}
    if (ours := found.get(label("wavelet_vae"))) is not None:
        claims |= {"error_ours": ours, "ratio_to_l1_error": ours / found["L1-wavelet ESPIRiT"]}
    publish(rows, claims, options.json)
    if options.figure is not None:
        with atomic(options.figure) as temporary:
            figure(images).savefig(temporary, format="png", dpi=110)


if __name__ == "__main__":
    main()
