"""Training speed: how many slices a second does each network train on, beside MONAI's BasicUNet in the same run.

Networks take turns step by step, so that a disturbance of the machine hits all of them; the ratio is the median of the
paired step times. Slices of 96×96, batch 16, the precision that training would choose.
"""

import statistics
import time
from collections.abc import Callable

import torch
from _table import arguments, publish

from medwvae.nets.conv_vae import ConvVAE
from medwvae.nets.restorer import Restorer
from medwvae.nets.unet import UNet
from medwvae.nets.wavelet_vae import WaveletVAE
from medwvae.operators import Measurement
from medwvae.precision import best_precision

BATCH, SIZE = 16, 96


def stepper(model: Restorer, precision: str) -> Callable[[], float]:
    optimiser = torch.optim.AdamW(model.parameters())
    truth = torch.rand(BATCH, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    measurement = Measurement(truth + 0.1)

    def step() -> float:
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            estimate = model(measurement, truth)
        loss = (estimate.image - truth).abs().mean() + estimate.penalty
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        return time.perf_counter() - started

    return step


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    precision = best_precision("cpu")
    networks = {"unet": UNet(), "wavelet_vae": WaveletVAE(), "conv_vae": ConvVAE()}
    steps = {name: stepper(model, precision) for name, model in networks.items()}
    times: dict[str, list[float]] = {name: [] for name in networks}
    for turn in range(13 if options.quick else 63):
        for name, step in steps.items():
            seconds = step()
            if turn >= 3:
                times[name].append(seconds)
    rows, claims = [], {}
    for name, seconds in times.items():
        ratio = statistics.median(u / s for u, s in zip(times["unet"], seconds, strict=True))
        parameters = sum(p.numel() for p in networks[name].parameters())
        median = statistics.median(seconds)
        rows.append(
            {
                "network": name, "parameters": parameters, "precision": precision, "ms per step": 1000 * median,
                "slices/s": BATCH / median, "x unet": ratio,
            }
        )  # fmt: skip
        claims[f"train_ratio_{name}_to_unet"] = ratio
    publish(rows, claims, options.json)


if __name__ == "__main__":
    main()
