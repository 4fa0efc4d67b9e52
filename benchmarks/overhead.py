"""Overhead: the share of a finished run that went into starting processes and importing, rather than into its work.

Work of a job: training steps and validations as training itself timed them, the methods' own seconds and their tuning;
everything of ingest, preprocess, evaluate and report. Usage: python benchmarks/overhead.py results/demo
"""

import json
from pathlib import Path

import pandas as pd
from _table import arguments, publish

from medwvae import checkpoint


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("root", type=Path, help="folder of a finished run")
    options = parser.parse_args()
    rows = []
    for table in sorted((options.root / "benchmarks").glob("*.tsv")):
        wall = float(pd.read_csv(table, sep="\t")["s"].iloc[-1])
        stage, _, rest = table.stem.partition("-")
        task, _, method = rest.partition("-")
        work = wall
        if stage == "train":
            work = checkpoint.load(options.root / "models" / task / method / "model.pt")["meta"]["wall_seconds"]
        elif stage == "restore":
            record = json.loads((options.root / "restored" / task / method / "record.json").read_text())
            work = sum(record["seconds_per_volume"].values()) + record["details"].get("tuning_seconds", 0)
        rows.append({"job": table.stem, "wall s": wall, "work s": float(min(work, wall))})
    wall, work = sum(row["wall s"] for row in rows), sum(row["work s"] for row in rows)
    publish(rows, {"overhead_fraction": 1 - work / wall, "jobs": float(len(rows)), "job_seconds": wall}, options.json)


if __name__ == "__main__":
    main()
