"""Figures and table of a finished run for the docs: python benchmarks/figures.py results/ixi docs/ixi.

Writes scores-<task>.svg, training-<task>.svg, table.md and headline.md; of a study of generative models, with --scales
MODEL ..., noise-scales-<model>.svg. Plots only: no image of a subject leaves the run's own folder.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd

from medwvae.files import atomic
from medwvae.report import figures
from medwvae.report.words import family, label, task_label

STYLE = Path(figures.__file__).with_name("style.css")


def standalone(svg: str) -> str:
    """Give a figure of the page the light theme's colours, a background and the namespace that a file needs."""
    colours = dict(re.findall(r"--(\w+): (#\w+)", STYLE.read_text(encoding="utf-8").split("@media")[0]))
    svg = re.sub(r"var\(--(\w+)\)", lambda match: colours[match[1]], svg)
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" style="background:{colours["page"]};'
    return svg.replace('<svg style="', opening, 1) + "\n"


def table(summary: dict[str, Any]) -> str:
    """Mean and 95 % interval over the test subjects, inside the head, as Markdown."""
    lines = []
    for name, task in summary["tasks"].items():
        lines += [
            f"**{task_label(name)}** ({task['setting']}; {task['subjects']} test subjects; "
            f"protocol `{task['protocol']}`)",
            "",
        ]
        lines += ["| Method | Kind | PSNR, dB | SSIM |", "|---|---|---|---|"]
        blocks = task["regions"]["head"]
        order = sorted(task["kinds"], key=lambda method: blocks["psnr"]["methods"][method]["mean"])
        for method in order:
            cells = []
            for metric, digits in (("psnr", 2), ("ssim", 3)):
                entry = blocks[metric]["methods"][method]
                text = f"{entry['mean']:.{digits}f} [{entry['low']:.{digits}f}, {entry['high']:.{digits}f}]"
                cells.append(f"**{text}**" if blocks[metric]["best"] == method else text)
            lines.append(f"| {label(method)} | {task['kinds'][method]} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def headline(summary: dict[str, Any]) -> str:
    """One small table for the README: each kind's best method per task, PSNR in dB / SSIM inside the head."""
    tasks = summary["tasks"]
    titles = [f"{task_label(name)}, {task['setting']}" for name, task in tasks.items()]
    lines = [f"| PSNR, dB / SSIM | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]

    def cell(task: dict[str, Any], method: str, *, named: bool = False) -> str:
        psnr, ssim = (task["regions"]["head"][m] for m in ("psnr", "ssim"))
        numbers = [
            f"**{block['methods'][method]['mean']:.{digits}f}**"
            if block["best"] == method
            else f"{block['methods'][method]['mean']:.{digits}f}"
            for block, digits in ((psnr, 2), (ssim, 3))
        ]
        return " / ".join(numbers) + (f" ({label(method)})" if named else "")

    def best_classical(task: dict[str, Any]) -> str:
        methods = task["regions"]["head"]["psnr"]["methods"]
        names = [name for name in methods if methods[name]["kind"] == "classical"]
        return max(names, key=lambda name: float(methods[name]["mean"]))

    lines.append("| Input | " + " | ".join(cell(task, "input") for task in tasks.values()) + " |")
    classical = [cell(task, best_classical(task), named=True) for task in tasks.values()]
    lines.append("| Best classical method, tuned | " + " | ".join(classical) + " |")
    for network in ("conv_vae", "unet", "wavelet_vae"):
        if all(network in task["kinds"] for task in tasks.values()):
            lines.append(f"| {label(network)} | " + " | ".join(cell(task, network) for task in tasks.values()) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, help="folder of a finished run")
    parser.add_argument("out", type=Path, help="folder for the figures and the table")
    parser.add_argument("--scales", nargs="*", default=[], metavar="MODEL", help="generative models, as elbo-r8-s1")
    options = parser.parse_args()
    texts = {}
    for model in options.scales:
        history = pd.read_csv(options.root / "generative" / model / "history.csv")
        drawn = figures.noise_scales(model, history)
        if drawn is None:
            parser.error(f"{model} learned no noise scale")
        texts[f"noise-scales-{model}.svg"] = standalone(drawn)
    if not options.scales:
        texts |= of_restoration(options.root)
    for name, text in texts.items():
        with atomic(options.out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def of_restoration(root: Path) -> dict[str, str]:
    """Return the files of the tasks by name."""
    summary = json.loads((root / "summary.json").read_text())
    metrics = pd.read_csv(root / "metrics.csv")
    texts = {"table.md": table(summary), "headline.md": headline(summary)}
    for name, task in summary["tasks"].items():
        title, rows = task_label(name), metrics[metrics["task"] == name]
        histories = {
            path.parent.name: pd.read_csv(path) for path in (root / "models" / family(name)).glob("*/history.csv")
        }
        order = sorted(task["kinds"], key=lambda method: task["regions"]["head"]["psnr"]["methods"][method]["mean"])
        texts[f"scores-{name}.svg"] = standalone(figures.strips(title, rows, task, "head", order))
        curves = figures.training_curves(title, histories)
        if curves:
            texts[f"training-{name}.svg"] = standalone(curves)
    return texts


if __name__ == "__main__":
    main()
