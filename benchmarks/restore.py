"""A whole volume restored by the Wavelet-VAE and by MONAI's U-Net: seconds, and of a finished run the quality beside.

120 × 120 × 90 voxels, measured as configs/benchmark.yaml says, restored as `medwvae restore` does (mirrored copies,
data consistency, tiles), the measurement itself not counted. Networks take turns, so that a disturbance of the machine
hits all of them; the ratio is the median over the turns. Weights are drawn by chance, for time does not depend on them;
with --run DIR they are those of a finished run of that configuration, the volume is that of one of its test subjects,
and its scores over all test subjects stand beside.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from _table import arguments, publish

from medwvae import build, paths
from medwvae.config import Config, Problem
from medwvae.config_io import load
from medwvae.data.loaders import Case, load_cases
from medwvae.data.phantom.cohort import make_cohort
from medwvae.data.transforms import prepare
from medwvae.nets.restorer import Restorer
from medwvae.operators import Measurement
from medwvae.precision import best_precision
from medwvae.restore import Method, network_method, simulate
from medwvae.stages.training import trained

SHAPE, SPACING = (120, 120, 90), (2.0, 2.0, 2.0)
CONFIG = Path(__file__).parents[1] / "configs" / "benchmark.yaml"
OURS, RIVAL = "wavelet_vae", "unet"


def volume(config: Config, run: Path | None) -> Case:
    """Return the volume to restore: a synthetic head, or that of the run's first test subject."""
    if run is not None:
        return load_cases(paths.prepared_index(run), "test")[0]
    with tempfile.TemporaryDirectory() as folder:
        files = make_cohort(
            Path(folder, "phantom"), subjects=1, seed=1, shape=SHAPE, spacing=SPACING, file_format="nifti"
        )
        plane, percentile = config.preprocess.plane, config.preprocess.percentile
        return Case("one", "one", "t1w", prepare(files[0], modality="MR", plane=plane, percentile=percentile))


def network(config: Config, problem: Problem, name: str, run: Path | None) -> Restorer:
    """Return a network of the configuration; its weights are the run's, or drawn by chance."""
    if run is not None:
        model: Restorer = trained(config, problem.task, name)[0]
        return model
    torch.manual_seed(0)
    return build.network(config, problem.task, name)


def seconds_of(methods: dict[str, Method], measurement: Measurement, turns: int) -> dict[str, list[float]]:
    """Return the seconds of every turn; the first, in which kernels are chosen and caches filled, does not count."""
    times: dict[str, list[float]] = {name: [] for name in methods}
    for turn in range(turns + 1):
        part = measurement if turn else measurement[:24]
        for name, method in methods.items():
            started = time.perf_counter()
            method(part)
            if turn:
                times[name].append(time.perf_counter() - started)
    return times


def quality(run: Path | None, problem: Problem, name: str) -> dict[str, float]:
    """Return means over the run's test subjects, inside the head."""
    if run is None:
        return {}
    scores = pd.read_csv(paths.scores(run, problem.id))
    mine = scores[(scores["method"] == name) & (scores["region"] == "head")]
    means = mine.groupby("metric")["value"].mean()
    return {"PSNR dB": float(means["psnr"]), "SSIM": float(means["ssim"])}


def measured(config: Config, problem: Problem, options: argparse.Namespace) -> tuple[list[dict[str, Any]], float]:
    """Return a row for every network, and the time of ours over the rival's."""
    run: Path | None = options.run
    case, restoring = volume(config, run), config.restore
    models = {name: network(config, problem, name, run) for name in options.networks}
    methods = {
        name: network_method(
            model, self_ensemble=restoring.self_ensemble, batch=restoring.batch, precision=best_precision("cpu")
        )
        for name, model in models.items()
    }
    degrade = build.degradation(config, problem.id)
    times = seconds_of(methods, simulate(case, degrade, config.seed, problem.task).measurement, options.turns)
    ratios = {
        name: statistics.median(s / u for s, u in zip(seconds, times[RIVAL], strict=True))
        for name, seconds in times.items()
    }
    rows = [
        {
            "problem": problem.id, "setting": build.setting(config, problem.id), "network": name,
            "parameters": sum(p.numel() for p in models[name].parameters()),
            "seconds per volume": statistics.median(seconds), "x unet": ratios[name], **quality(run, problem, name),
        }
        for name, seconds in times.items()
    ]  # fmt: skip
    return rows, ratios[OURS]


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--run", type=Path, help="folder of a finished run of the configuration")
    parser.add_argument("--config", type=Path, action="append", help=f"instead of configs/{CONFIG.name}; repeatable")
    parser.add_argument("--problem", action="append", help="only these problems, as denoise-s5; repeatable")
    parser.add_argument("--networks", nargs="*", default=[OURS, RIVAL], help=f"beside {OURS} and {RIVAL}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, help="default 5, quick 2")
    options = parser.parse_args()
    options.turns = options.turns or (2 if options.quick else 5)
    options.networks = list(dict.fromkeys((OURS, RIVAL, *options.networks)))
    torch.set_num_threads(options.threads)
    files = [options.run / "config.yaml"] if options.run else options.config or [CONFIG]
    config = load(files, {"results": str(options.run.parent), "run": options.run.name} if options.run else {})
    problems = [problem for problem in config.problems() if not options.problem or problem.id in options.problem]
    if options.quick and not options.problem:  # the settings of a task differ in what is known, hardly in time
        problems = list({problem.task: problem for problem in reversed(problems)}.values())[::-1]
    rows, ratios = [], []
    for problem in problems:
        found, ratio = measured(config, problem, options)
        rows += found
        ratios.append(ratio)
    claims = {
        "seconds_per_volume": max(row["seconds per volume"] for row in rows if row["network"] == OURS),
        "ratio_to_unet_time": max(ratios),
    }
    publish(rows, claims, options.json)


if __name__ == "__main__":
    main()
