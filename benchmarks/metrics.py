"""Metrics: are PSNR, NMSE and SSIM equal to scikit-image's on a 181×217×181 volume, and how much faster.

scikit-image and ours take turns, so that a disturbance of the machine hits both; ratios are medians over the turns.
scikit-image uses one thread whatever it is given; ours uses --threads. All in float64. The volume is smooth noise of
the size of a brain at 1 mm. `--device cuda` times ours on a card.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from _table import arguments, publish
from scipy import ndimage
from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio, structural_similarity

from medwvae.metrics import nmse, psnr, ssim_tensor

SHAPE = (181, 217, 181)
GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


def seconds_of(function: Callable[[], object]) -> tuple[float, object]:
    started = time.perf_counter()
    answer = function()
    return time.perf_counter() - started, answer


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="where ours runs")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    ref = ndimage.gaussian_filter(rng.random(SHAPE), 2.0)
    ref = (ref - ref.min()) / np.ptp(ref)
    x = ref + 0.05 * rng.standard_normal(SHAPE)
    a, b = (torch.from_numpy(f).to(options.device) for f in (x, ref))

    def similar(kind: str, dims: int) -> Callable[[], torch.Tensor]:
        return lambda: ssim_tensor(a, b, data_range=1.0, kind=kind, dims=dims).cpu()  # type: ignore[arg-type]

    def by_slice() -> np.ndarray:
        pairs = zip(x, ref, strict=True)
        return np.stack([structural_similarity(p, q, data_range=1.0, full=True, **GAUSSIAN)[1] for p, q in pairs])

    rivals: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "PSNR": (lambda: peak_signal_noise_ratio(ref, x, data_range=1.0), lambda: psnr(a, b, data_range=1.0)),
        "NMSE": (lambda: normalized_root_mse(ref, x) ** 2, lambda: nmse(a, b)),
        "SSIM Gaussian 11, 3D": (
            lambda: structural_similarity(x, ref, data_range=1.0, full=True, **GAUSSIAN)[1],
            similar("gaussian", 3),
        ),
        "SSIM uniform 7, 3D": (
            lambda: structural_similarity(x, ref, data_range=1.0, full=True)[1],
            similar("uniform", 3),
        ),
        "SSIM Gaussian 11, 2D": (by_slice, similar("gaussian", 2)),
    }
    rows, differences, sums = [], [], {"theirs": 0.0, "ours": 0.0}
    for name, (theirs, ours) in rivals.items():
        times, own = [], []
        for turn in range(2 if options.quick else 6):
            seconds, expected = seconds_of(theirs)
            own_seconds, found = seconds_of(ours)
            if turn:  # the first is for warming up
                times.append(seconds)
                own.append(own_seconds)
        difference = float(np.abs(np.asarray(found) - np.asarray(expected)).max())
        differences.append(difference)
        medians = statistics.median(times), statistics.median(own)
        if name in ("PSNR", "NMSE", "SSIM Gaussian 11, 3D"):
            sums["theirs"] += medians[0]
            sums["ours"] += medians[1]
        rows.append(
            {
                "metric": name, "scikit-image s": medians[0], "ours s": medians[1],
                "ratio": statistics.median(p / q for p, q in zip(times, own, strict=True)),
                "max |difference|": difference, "threads": options.threads, "device": options.device,
            }
        )  # fmt: skip
    claims = {
        "ratio_to_skimage": sums["theirs"] / sums["ours"],
        "ratio_to_skimage_ssim": next(float(row["ratio"]) for row in rows if row["metric"] == "SSIM Gaussian 11, 3D"),
        "max_abs_difference": max(differences),
    }
    publish(rows, claims, options.json)


if __name__ == "__main__":
    main()
