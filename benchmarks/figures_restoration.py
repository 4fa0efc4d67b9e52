"""Tables and figures of docs/restoration.md from a finished run of configs/benchmark.yaml, or of any tasks.

    python benchmarks/figures_restoration.py results/benchmark docs/restoration

Writes verdicts.md (a row for every problem: ours beside the best network and the best classical method), scores.md
(every method on every problem), coverage.md (where the run has intervals) and psnr-<task>.svg. These hold numbers
alone. With --pictures also pictures-<task>.png: slices of a test subject, where the licence of the images allows it.
"""

import argparse
import base64
import io
import json
import statistics
import textwrap
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from figures import standalone
from matplotlib.figure import Figure
from matplotlib.image import imread

from medwvae import paths
from medwvae.config import ReportConfig
from medwvae.data.loaders import load_cases
from medwvae.files import atomic
from medwvae.names import ZERO_SHOT
from medwvae.report import figures, panels
from medwvae.report.uncertainty import STRATA
from medwvae.report.words import family, label, number, p_value, task_label
from medwvae.statistics import SIGNIFICANT

OURS, MAIN = "wavelet_vae", ("psnr", "ssim")
SIDE = 360
"""Pixels of the longer side of a picture."""

Task = dict[str, Any]


def interval(entry: Task, metric: str) -> str:
    mean = number(entry["mean"], metric)
    return mean if entry["low"] is None else f"{mean} [{number(entry['low'], metric)}, {number(entry['high'], metric)}]"


def best(task: Task, metric: str, kind: str) -> str | None:
    """Return the method of a kind with the best mean."""
    methods = task["regions"]["head"][metric]["methods"]
    means = {name: e["mean"] for name, e in methods.items() if e["kind"] == kind and e["mean"] is not None}
    return max(means, key=means.__getitem__) if means else None


def ranked(task: Task) -> list[str]:
    """Return the methods from the worst mean PSNR to the best."""
    methods = task["regions"]["head"]["psnr"]["methods"]
    return sorted(methods, key=lambda name: -np.inf if methods[name]["mean"] is None else methods[name]["mean"])


def beside(task: Task, metric: str, rival: str | None) -> str:
    """Return by how much ours is ahead of a rival, how sure that is, and whose the rival is."""
    entry = task["regions"]["head"][metric]["methods"].get(rival or "", {})
    if rival is None or "difference" not in entry:
        return "–"
    sure = entry["p_holm"] < SIGNIFICANT and entry["difference"] > 0
    ahead = number(entry["difference"], metric, sign=True)
    return f"{f'**{ahead}**' if sure else ahead} {label(rival)} ({p_value(entry['p_holm'])})"


def verdicts(tasks: dict[str, Task]) -> str:
    """Return a row for each problem: ours − rival, bold if ahead by Holm's p < .05; then the p of being first."""
    head = ["Task", "Setting", "Ours: PSNR, dB", "SSIM"]
    head += [f"{metric}, best {kind}" for metric in ("PSNR", "SSIM") for kind in ("network", "classical")]
    head += ["Ahead of every rival: PSNR", "SSIM", "Zero-shot: PSNR less the best classical's"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, task in tasks.items():
        blocks = task["regions"]["head"]
        own = [interval(blocks[metric]["methods"][OURS], metric) for metric in MAIN]
        gaps = [beside(task, metric, best(task, metric, kind)) for metric in MAIN for kind in ("network", "classical")]
        every = [p_value(blocks[metric]["verdict"].get("p_every")) or "no" for metric in MAIN]
        zero = prior_alone(task)
        cells = [*own, *gaps, *every, "–" if zero is None else number(zero, "psnr", sign=True)]
        lines.append(f"| {task_label(name)} | {task['setting']} | {' | '.join(cells)} |")
    count = {metric: sum(t["regions"]["head"][metric]["verdict"]["outcome"] == "won" for t in tasks.values())
             for metric in MAIN}  # fmt: skip
    words = " and ".join(f"{count[metric]} in {metric.upper()}" for metric in MAIN)
    zeros = [zero for task in tasks.values() if (zero := prior_alone(task)) is not None]
    lines += ["", f"Won (docs/statistics.md), of {len(tasks)} rows: {words}."]
    if zeros:
        lines += [
            "",
            f"Zero-shot ahead of the best classical method: {sum(z > 0 for z in zeros)} of {len(zeros)} rows.",
        ]
    return "\n".join([*lines, ""])


def prior_alone(task: Task) -> float | None:
    """Return by how many dB the prior alone is ahead of the best classical method; None if either is missing."""
    methods, rival = task["regions"]["head"]["psnr"]["methods"], best(task, "psnr", "classical")
    if rival is None or methods.get(ZERO_SHOT, {}).get("mean") is None:
        return None
    return float(methods[ZERO_SHOT]["mean"] - methods[rival]["mean"])


def scores(root: Path, tasks: dict[str, Task]) -> str:
    """Return a table for every problem, its methods from the best to the worst."""
    lines = []
    for name, task in tasks.items():
        blocks = task["regions"]["head"]
        subjects = f"{task['subjects']} test subjects; protocol `{task['protocol']}`"
        lines += [f"**{task_label(name)}** ({task['setting']}; {subjects})", ""]
        head = ["Method", "PSNR, dB", "Holm p", "SSIM", "Holm p", "s a volume", "Parameters", "Steps, or tuned to", "s"]
        lines += [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for method in reversed(ranked(task)):
            known = record(root, task["task"], method)
            seconds = known["seconds_per_volume"].values()
            cells = []
            for metric in MAIN:
                entry = blocks[metric]["methods"][method]
                text = interval(entry, metric)
                cells += [f"**{text}**" if blocks[metric]["best"] == method else text, p_value(entry.get("p_holm"))]
            size = known["details"].get("parameters")
            cells += [f"{statistics.median(seconds):.2g}" if seconds else "", "" if size is None else f"{size:,}"]
            cells += cost(known["details"])
            lines.append(f"| {label(method)} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def cost(known: Task) -> list[str]:
    """Return how far a method was trained or to what it was tuned, and the seconds that took."""
    if "tuning" in known:
        tried = {key: sorted({trial["params"][key] for trial in known["tuning"]}) for key in known["params"]}
        edge = {
            key
            for key, values in tried.items()
            if len(values) > 1 and known["params"][key] in values[:: len(values) - 1]
        }
        said = [
            f"{key} {value:g}{' (end of the grid)' if key in edge else ''}" for key, value in known["params"].items()
        ]
        return [", ".join(said), f"{known['tuning_seconds']:.0f}"]
    if "steps" in known:
        return [f"{known['steps']:,} steps", f"{known['training_seconds']:.0f}"]
    return ["", ""]


def record(root: Path, problem: str, method: str) -> Task:
    found: Task = json.loads(paths.record(root, problem, method).read_text(encoding="utf-8"))
    return found


def coverage(root: Path, tasks: dict[str, Task]) -> str | None:
    """Return how far the intervals hold, a row a problem; None without any."""
    rows = []
    for name, task in tasks.items():
        found = {metric: block["methods"].get(OURS) for metric, block in task["regions"]["head"].items()}
        calibration = record(root, task["task"], OURS)["details"].get("uncertainty")
        held = found.get("coverage_90")
        if held is None or held["mean"] is None or calibration is None:
            continue
        strata = {one: e["mean"] for one in STRATA if (e := found.get(f"coverage_{one}")) and e["mean"] is not None}
        worst = min(strata, key=strata.__getitem__)
        share = f"{100 * held['mean']:.1f}"
        if held["low"] is not None:
            share += f" [{100 * held['low']:.1f}, {100 * held['high']:.1f}]"
        rank, width = found.get("width_error_rank"), found["interval_width"]
        cells = [
            task_label(name), task["setting"], share,
            f"{100 * width['mean']:.1f}" if width else "–", interval(rank, "width_error_rank") if rank else "–",
            f"{100 * strata[worst]:.1f} ({worst})", str(calibration["subjects"]),
        ]  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    if not rows:
        return None
    head = ["Task", "Setting", "90 % intervals hold, %", "Width, % of the maximum", "Spearman of width and error",
            "Least in a third, %", "Calibrated on"]  # fmt: skip
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *rows, ""])


def dots(name: str, tasks: dict[str, Task], metric: str = "psnr") -> str:
    """Return the means of all methods with their intervals, a panel for every setting of a task."""
    order = ranked(next(iter(tasks.values())))[::-1]
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(max(4.6, 1.6 + 2.2 * len(tasks)), 1.0 + 0.27 * len(order)), layout="constrained")
        axes = np.atleast_1d(figure.subplots(1, len(tasks), sharey=True))
        for axis, task in zip(axes, tasks.values(), strict=True):
            block = task["regions"]["head"][metric]
            for height, method in enumerate(order):
                entry = block["methods"].get(method)
                if entry is None or entry["mean"] is None:
                    continue
                colour = figures.VARIABLES[entry["kind"]]
                if entry["low"] is not None:
                    axis.plot([entry["low"], entry["high"]], [height] * 2, color=colour, linewidth=1.6)
                axis.plot(entry["mean"], height, "o", color=colour, markersize=5)
            axis.set_title(figures.plain(textwrap.fill(task["setting"], 26)), loc="left")
            axis.set_xlabel(f"PSNR ({block['unit']}), ↑" if metric == "psnr" else f"{label(metric)}, ↑")
            axis.grid(axis="x")
            axis.set_axisbelow(True)
            axis.tick_params(axis="y", length=0)
        axes[0].set_yticks(range(len(order)), [figures.plain(label(method)) for method in order])
        axes[0].set_ylim(len(order) - 0.5, -0.5)
        said = "; ".join(f"{t['setting']}: {label(best_of(t, metric))} is best" for t in tasks.values())
        return figures.svg(
            figure, f"{task_label(name)}: mean {metric.upper()} of every method with its interval. {said}."
        )


def best_of(task: Task, metric: str) -> str:
    return str(task["regions"]["head"][metric]["best"])


def pictures(root: Path, task: Task) -> Figure | None:
    """Return a slice of the middle test subject: whole, a detail, the error, by the best method of every kind."""
    metrics = pd.read_csv(paths.metrics(root), dtype={"subject": str})
    mine = metrics[(metrics["task"] == task["task"]) & (metrics["method"] == OURS) & (metrics["region"] == "head")]
    order = mine[mine["metric"] == "psnr"].sort_values("value")["subject"].astype(str).tolist()
    cases = {case.subject: case for case in load_cases(paths.prepared_index(root), "test")}
    case = cases[order[len(order) // 2]]
    manifest = pd.read_csv(paths.manifest(root)).set_index("volume")
    found = [best(task, "psnr", kind) for kind in ("classical", "network")]
    shown = ["input", *(name for name in found if name is not None), OURS]
    one = panels.panel(
        root / str(manifest.loc[case.volume, "file"]),
        {m: paths.volume(paths.restored(root, task["task"], m), case.volume) for m in shown},
        case.prepared.axis, ReportConfig().ct_window if manifest.loc[case.volume, "modality"] == "CT" else None, SIDE,
    )  # fmt: skip
    figure = Figure(figsize=(2.1 * len(one.tiles), 6.4), layout="constrained")
    axes = figure.subplots(3, len(one.tiles))
    for column, tile in zip(axes.T, one.tiles, strict=True):
        column[0].set_title("Truth" if tile.method == "truth" else label(tile.method), fontsize=9)
        for axis, address in zip(column, (tile.image, tile.detail, tile.error), strict=True):
            axis.axis("off")
            if address:
                axis.imshow(imread(io.BytesIO(base64.b64decode(address.partition(",")[2]))), cmap="gray")
    figure.suptitle(f"{task['setting']}; error from 0 to {one.error_top:.3g} (the unit of the volume)", fontsize=9)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="folder of a finished run")
    parser.add_argument("out", type=Path, help="folder for the tables and figures")
    parser.add_argument("--pictures", action="store_true", help="slices of a test subject, too")
    options = parser.parse_args()
    tasks: dict[str, Task] = json.loads(paths.summary(options.root).read_text(encoding="utf-8"))["tasks"]
    texts = {"verdicts.md": verdicts(tasks), "scores.md": scores(options.root, tasks)}
    if (held := coverage(options.root, tasks)) is not None:
        texts["coverage.md"] = held
    families = {
        name: {k: t for k, t in tasks.items() if family(k) == name} for name in dict.fromkeys(map(family, tasks))
    }
    for name, settings in families.items():
        texts[f"psnr-{name}.svg"] = standalone(dots(name, settings))
    for name, text in texts.items():
        with atomic(options.out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    for name, settings in families.items() if options.pictures else ():
        drawn = pictures(options.root, next(reversed(settings.values())))
        if drawn is not None:
            with atomic(options.out / f"pictures-{name}.png") as temporary:
                drawn.savefig(temporary, format="png", dpi=110)


if __name__ == "__main__":
    main()
