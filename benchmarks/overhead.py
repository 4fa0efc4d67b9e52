"""Overhead: the share of a finished run that went into starting processes and importing, rather than into its work.

Counted as overhead: for every job, the time that a process needs to start and to import what its stage imports
(measured here, median of five), and the workflow's own planning (one dry run). Usage:
python benchmarks/overhead.py results/demo --configfile configs/demo.yaml
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
from _table import arguments, publish

IMPORTS = {
    "phantom": "medwvae.data.phantom.cohort",
    "ingest": "medwvae.data.ingest",
    "split": "medwvae.data.splits",
    "preprocess": "medwvae.data.transforms, monai.transforms.spatial.dictionary",
    "train": "medwvae.train, medwvae.build, lightning_fabric",
    "restore": "medwvae.restore, medwvae.train, medwvae.build, medwvae.baselines",
    "evaluate": "medwvae.evaluate, medwvae.data.loaders, medwvae.build",
    "report": "medwvae.report.page, medwvae.evaluate, medwvae.data.loaders",
}
"""What each stage imports before its work starts, beside the command line."""


def seconds_of(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("root", type=Path, help="folder of a finished run")
    parser.add_argument("--configfile", required=True, help="the run's configuration")
    options = parser.parse_args()
    start = {
        stage: statistics.median(
            seconds_of([sys.executable, "-c", f"import medwvae.cli, medwvae.stages, medwvae.config_io, {names}"])
            for _ in range(2 if options.quick else 5)
        )
        for stage, names in IMPORTS.items()
    }
    plan = ["-m", "snakemake", "--cores", "2", "--configfile", options.configfile, "--dry-run", "--quiet"]
    planning = seconds_of([sys.executable, *plan])
    rows: dict[str, dict[str, float | str]] = {}
    for table in sorted((options.root / "benchmarks").glob("*.tsv")):
        stage = table.stem.partition("-")[0]
        row = rows.setdefault(stage, {"stage": stage, "jobs": 0, "wall s": 0.0, "start s": 0.0})
        row["jobs"] = int(row["jobs"]) + 1
        row["wall s"] = float(row["wall s"]) + float(pd.read_csv(table, sep="\t")["s"].iloc[-1])
        row["start s"] = float(row["start s"]) + start[stage]
    wall = sum(float(row["wall s"]) for row in rows.values()) + planning
    starts = sum(float(row["start s"]) for row in rows.values()) + planning
    claims = {"overhead_fraction": starts / wall, "train_start_seconds": start["train"], "planning_seconds": planning}
    publish(list(rows.values()), claims, options.json)


if __name__ == "__main__":
    main()
