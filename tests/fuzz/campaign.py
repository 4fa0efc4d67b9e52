"""Many mutants in a process of their own, which may be killed: the parent notes crashes and hangs, and goes on."""

import argparse
import json
import os
import queue
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from tests.fuzz.judge import Outcome, judge
from tests.fuzz.mutants import draw

HANG_SECONDS = 300.0
_ADDRESS_SPACE = 4 << 30
_ROOT = Path(__file__).parents[2]


def campaign(seed: int, runs: int, first: int = 0) -> Iterator[Outcome]:
    """Yield the outcome of the mutants `first` to `first + runs - 1`."""
    index, end = first, first + runs
    while index < end:
        for outcome in _in_one_process(seed, index, end):
            yield outcome
            index = outcome.index + 1


def _in_one_process(seed: int, first: int, end: int) -> Iterator[Outcome]:
    """Yield outcomes until the range is done or the process is lost, which is an outcome too."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as errors:
        command = [sys.executable, "-m", "tests.fuzz.campaign", folder, *map(str, (seed, first, end))]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, cwd=_ROOT, env=environment)
        assert worker.stdout is not None
        lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        reader = threading.Thread(target=_forward, args=(worker.stdout, lines), daemon=True)
        reader.start()
        expected = first
        try:
            while expected < end:
                try:
                    line = lines.get(timeout=HANG_SECONDS)
                except queue.Empty:
                    worker.kill()
                    yield _lost(seed, expected, "hang", f"no answer within {HANG_SECONDS:g} s")
                    return
                if not line:
                    errors.seek(0)
                    told = errors.read().decode(errors="replace")[-3000:]
                    yield _lost(seed, expected, "crash", f"the process ended with {worker.wait()}\n{told}")
                    return
                yield Outcome(**json.loads(line))
                expected += 1
        finally:
            worker.kill()
            worker.wait()
            reader.join()
            worker.stdout.close()


def _forward(pipe, lines) -> None:
    for line in pipe:
        lines.put(line)
    lines.put(b"")


def _lost(seed: int, index: int, verdict: str, detail: str) -> Outcome:
    mutant = draw(seed, index)
    return Outcome(index, mutant.kind, mutant.name, verdict, detail, 0.0, 0)


def work(folder: Path, seed: int, first: int, end: int) -> None:
    """Judge mutants one by one in `folder` (empty) and print each outcome as a line of JSON."""
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    for index in range(first, end):
        outcome = judge(draw(seed, index), index, folder)
        for path in sorted(folder.rglob("*"), reverse=True):  # what is inside goes first
            if not path.is_dir():
                path.unlink()
            elif path != folder / "source":  # kept: making and removing folders costs more than reading most mutants
                path.rmdir()
        sys.stdout.write(json.dumps(asdict(outcome)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for name in ("seed", "first", "end"):
        parser.add_argument(name, type=int)
    options = parser.parse_args()
    work(options.folder, options.seed, options.first, options.end)
