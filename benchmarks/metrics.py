"""Metrics: are PSNR, NMSE and SSIM equal to scikit-image's on a 181×217×181 volume, and how much faster.

scikit-image and ours take turns, so that a disturbance of the machine hits both; ratios are medians over the turns,
paired within each. Both may use --threads threads; scikit-image knows only one, so the ratio of processor times says
what is left without threads. All in float64. The volume is smooth noise of the size of a brain at 1 mm. `--device cuda`
times ours on a card.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from _table import arguments, publish
from scipy import ndimage
from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio, structural_similarity

from medwvae.metrics import nmse, psnr, ssim_tensor

SHAPE = (181, 217, 181)
GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
CLAIMED = ("PSNR", "NMSE", "SSIM Gaussian 11, 3D")


@dataclass
class Timed:
    """One function and its times, seconds by turn: on the clock, and of all its threads."""

    function: Callable[[], object]
    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    answer: object = None

    def run(self, *, kept: bool) -> None:
        """Call the function once; its times count if they are to be kept."""
        wall, processor = time.perf_counter(), time.process_time()
        self.answer = self.function()
        if kept:
            self.wall.append(time.perf_counter() - wall)
            self.processor.append(time.process_time() - processor)


def ratio(theirs: list[list[float]], ours: list[list[float]]) -> float:
    """Return the median over the turns of the ratio of the sums over functions."""
    sums = (map(sum, zip(*times, strict=True)) for times in (theirs, ours))
    return float(statistics.median(a / b for a, b in zip(*sums, strict=True)))


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="where ours runs")
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE, help="voxels (default: a brain at 1 mm)")
    parser.add_argument("--only", nargs="+", help="of the metrics, by name; claims are of those")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    ref = ndimage.gaussian_filter(rng.random(options.shape), 2.0)
    ref = (ref - ref.min()) / np.ptp(ref)
    x = ref + 0.05 * rng.standard_normal(options.shape)
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
    chosen = {name: rival for name, rival in rivals.items() if name in (options.only or rivals)}
    pairs = {name: (Timed(theirs), Timed(ours)) for name, (theirs, ours) in chosen.items()}
    for turn in range(3 if options.quick else 7):
        for pair in pairs.values():
            for one in pair if turn % 2 else reversed(pair):
                one.run(kept=turn > 0)  # the first is for warming up
    rows = [
        {
            "metric": name, "scikit-image s": statistics.median(theirs.wall), "ours s": statistics.median(ours.wall),
            "ratio": ratio([theirs.wall], [ours.wall]), "of processor": ratio([theirs.processor], [ours.processor]),
            "max |difference|": float(np.abs(np.asarray(ours.answer) - np.asarray(theirs.answer)).max()),
            "threads": options.threads, "device": options.device,
        }
        for name, (theirs, ours) in pairs.items()
    ]  # fmt: skip
    both = [pairs[name] for name in CLAIMED if name in pairs] or list(pairs.values())
    claims = {
        "ratio_to_skimage": ratio([theirs.wall for theirs, _ in both], [ours.wall for _, ours in both]),
        "ratio_of_processor_time": ratio([theirs.processor for theirs, _ in both], [o.processor for _, o in both]),
        "max_abs_difference": max(float(str(row["max |difference|"])) for row in rows),
    }
    publish(rows, claims, options.json)


if __name__ == "__main__":
    main()
