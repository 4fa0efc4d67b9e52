"""A whole volume restored by the Wavelet-VAE and by MONAI's U-Net: seconds, and of a finished run the quality beside.

120 × 120 × 90 voxels, measured as configs/benchmark.yaml says, restored as `medwvae restore` does (data consistency,
tiles), the measurement itself not counted: as configured, and quickly, from one copy of every slice
(`restore.self_ensemble: false`) that agrees with exact data as in training (`restore.data_steps: 8`). Networks take
turns, so that a disturbance of the machine hits all of them; the ratio, to the U-Net's answer as the configuration
has it, is the median over the turns. Weights are drawn by chance, for time does not depend on them; with --run DIR
they are those of a finished run of that configuration, the volume is that of one of its test subjects, and scores of
all test subjects stand beside. --quick takes one turn, of the configured answers and of our quick ones.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

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
from medwvae.operators.base import STEPS
from medwvae.precision import best_precision
from medwvae.restore import Method, network_method
from medwvae.scores import scores_of
from medwvae.stages.training import trained

SHAPE, SPACING = (120, 120, 90), (2.0, 2.0, 2.0)
CONFIG = Path(__file__).parents[1] / "configs" / "benchmark.yaml"
OURS, RIVAL = "wavelet_vae", "unet"
Way = tuple[str, str]
"""Network, and how it answers: `configured` or `quick`."""

Row = dict[str, Any]


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


def seconds_of(methods: dict[Way, Method], given: dict[str, Measurement], turns: int) -> dict[Way, list[float]]:
    """Return the seconds of every turn; the first, in which kernels are chosen and caches filled, does not count."""
    times: dict[Way, list[float]] = {way: [] for way in methods}
    for turn in range(turns + 1):
        for way, method in methods.items():
            measurement = given[way[1]] if turn else given[way[1]][:24]
            started = time.perf_counter()
            method(measurement)
            if turn:
                times[way].append(time.perf_counter() - started)
    return times


def quality(config: Config, problem: Problem, method: Method) -> dict[str, float]:
    """Return means over the run's test subjects, inside the head, of what the run's own measurements give."""
    acquire, protocol = build.acquisition(config, problem), build.protocol(config, problem.id)
    found = []
    for case in load_cases(paths.prepared_index(config.root), "test"):
        answer, prepared = method(acquire(case).measurement)[:, 0].numpy(), case.prepared
        scores = scores_of(
            protocol,
            answer,
            prepared.image,
            prepared.head,
            metrics=("psnr", "ssim"),
            regions=("head",),
            scaling=prepared.scaling,
        )
        found.append({score.metric: score.value for score in scores})
    return {name: statistics.fmean(one[key] for one in found) for name, key in (("PSNR dB", "psnr"), ("SSIM", "ssim"))}


def measured(config: Config, problem: Problem, options: argparse.Namespace) -> tuple[list[Row], dict[str, float]]:
    """Return a row for every network and way to answer, and what the claims are the worst of."""
    run: Path | None = options.run
    case = volume(config, run)
    models = {name: network(config, problem, name, run) for name in options.networks}
    quick = config.restore.model_copy(update={"self_ensemble": False, "data_steps": STEPS})
    settings = {"configured": config, "quick": config.model_copy(update={"restore": quick})}
    methods = {
        (name, way): network_method(
            model, self_ensemble=own.restore.mirrors(problem.task), batch=own.restore.batch,
            precision=best_precision("cpu"),
        )
        for name, model in models.items()
        for way, own in settings.items()
        if not options.quick or way == "configured" or name == OURS
    }  # fmt: skip
    given = {way: build.acquisition(own, problem)(case).measurement for way, own in settings.items()}
    times = seconds_of(methods, given, options.turns)
    rows: dict[Way, Row] = {
        (name, way): {
            "problem": problem.id, "setting": build.setting(config, problem.id), "network": name, "answers": way,
            "parameters": sum(p.numel() for p in models[name].parameters()),
            "seconds per volume": statistics.median(seconds),
            "x unet": statistics.median(s / u for s, u in zip(seconds, times[RIVAL, "configured"], strict=True)),
            **({} if run is None else quality(settings[way], problem, methods[name, way])),
        }
        for (name, way), seconds in times.items()
    }  # fmt: skip
    ours, fast, rival = rows[OURS, "configured"], rows[OURS, "quick"], rows[RIVAL, "configured"]
    worst = {
        "seconds_per_volume": ours["seconds per volume"],
        "ratio_to_unet_time": ours["x unet"],
        "ratio_of_quick_answer_to_unet_time": fast["x unet"],
    }
    if run is not None:
        worst["unet_psnr_less_ours"] = rival["PSNR dB"] - ours["PSNR dB"]
        worst["unet_psnr_less_quick_answer"] = rival["PSNR dB"] - fast["PSNR dB"]
    return list(rows.values()), worst


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--run", type=Path, help="folder of a finished run of the configuration")
    parser.add_argument("--config", type=Path, action="append", help=f"instead of configs/{CONFIG.name}; repeatable")
    parser.add_argument("--problem", action="append", help="only these problems, as denoise-s5; repeatable")
    parser.add_argument("--networks", nargs="*", default=[OURS, RIVAL], help=f"beside {OURS} and {RIVAL}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, help="default 5, quick 1")
    options = parser.parse_args()
    options.turns = options.turns or (1 if options.quick else 5)
    options.networks = list(dict.fromkeys((OURS, RIVAL, *options.networks)))
    torch.set_num_threads(options.threads)
    files = [options.run / "config.yaml"] if options.run else options.config or [CONFIG]
    config = load(files, {"results": str(options.run.parent), "run": options.run.name} if options.run else {})
    problems = [problem for problem in config.problems() if not options.problem or problem.id in options.problem]
    if options.quick and not options.problem:  # the settings of a task differ in what is known, hardly in time
        problems = list({problem.task: problem for problem in reversed(problems)}.values())[::-1]
    rows: list[Row] = []
    claims: dict[str, float] = {}
    for problem in problems:
        found, worst = measured(config, problem, options)
        rows += found
        claims = {name: max(value, claims.get(name, value)) for name, value in worst.items()}
    publish(rows, claims, options.json)


if __name__ == "__main__":
    main()
