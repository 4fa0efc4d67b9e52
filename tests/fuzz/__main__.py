"""Read mutants by the thousand: `python -m tests.fuzz --runs 100000 --seed 1`; status 1 if the reader failed on any."""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.fuzz.campaign import campaign
from tests.fuzz.judge import Outcome
from tests.fuzz.mutants import draw


def keep(outcome: Outcome, seed: int, folder: Path) -> None:
    """Write a mutant that the reader failed on, and what happened, for a look at it."""
    place = folder / f"{outcome.verdict}-{seed}-{outcome.index}"
    for name, data in draw(seed, outcome.index).files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (place / "what-happened.txt").write_text(f"{outcome.name}\n\n{outcome.detail}\n", encoding="utf-8")


def tables(outcomes: list[Outcome], reasons: bool) -> list[Table]:
    """Return outcomes by kind of mutant, and how often each reason was given."""
    verdicts = sorted({outcome.verdict for outcome in outcomes})
    table = Table("kind", *verdicts, "slowest s", "peak MiB")
    for kind in sorted({outcome.kind for outcome in outcomes}):
        own = [outcome for outcome in outcomes if outcome.kind == kind]
        counts = Counter(outcome.verdict for outcome in own)
        slowest, peak = max(outcome.seconds for outcome in own), max(outcome.memory for outcome in own)
        table.add_row(kind, *(str(counts[v]) for v in verdicts), f"{slowest:.2f}", f"{peak / 2**20:.0f}")
    if not reasons:
        return [table]
    said = Counter((o.kind, o.detail[:110]) for o in outcomes if o.verdict == "refused")
    why = Table("kind", "reason", "times")
    for (kind, reason), times in said.most_common():
        why.add_row(kind, reason, str(times))
    return [table, why]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--runs", type=int, default=2000, help="how many mutants")
    parser.add_argument("--seed", type=int, default=1, help="of the campaign; another one makes other mutants")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant: repeat one with --runs 1")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="folder for mutants that failed")
    parser.add_argument("--reasons", action="store_true", help="count the reasons of refusals, too")
    options = parser.parse_args()
    console, outcomes, started = Console(), [], time.perf_counter()
    runs = campaign(options.seed, options.runs, options.first)
    for outcome in track(runs, "mutants", total=options.runs, console=console):
        outcomes.append(outcome)
        if not outcome.good:
            keep(outcome, options.seed, options.keep)
            last = outcome.detail.strip().splitlines()[-1:] or [""]
            console.print(f"{outcome.verdict} #{outcome.index} {outcome.name}: {last[0]}", markup=False)
    console.print(*tables(outcomes, options.reasons))
    slowest = max(outcomes, key=lambda outcome: outcome.seconds)
    console.print(f"slowest: #{slowest.index} {slowest.name}, {slowest.seconds:.2f} s", markup=False)
    failed = sum(not outcome.good for outcome in outcomes)
    console.print(f"{len(outcomes)} mutants in {time.perf_counter() - started:.0f} s, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
