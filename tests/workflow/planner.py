"""Dry runs of Snakemake without its start: one process imports it, and of that a child makes each plan.

As a program (`python -m`) it answers each line of its input, a request, with the exit status of the child.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

REPOSITORY = Path(__file__).parents[2]
SECONDS = 600  # no plan hangs for longer


def plan(arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Return what `snakemake` says to these arguments, and its exit status."""
    server = _server()
    assert server.stdin is not None and server.stdout is not None
    with TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("stdout", "stderr")]
        server.stdin.write(json.dumps({"arguments": arguments, "environment": dict(environment), "files": files}))
        server.stdin.write("\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        return subprocess.CompletedProcess(arguments, status, *(Path(file).read_text("utf-8") for file in files))


@cache
def _server() -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command, pipe = [sys.executable, "-m", __name__], subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=REPOSITORY, env=environment)


def _become_snakemake(arguments: list[str], environment: dict[str, str], files: list[str]) -> None:
    for number, file in enumerate((os.devnull, *files)):
        opened = os.open(file, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    signal.alarm(SECONDS)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["snakemake", *arguments]
    from snakemake.cli import main

    main()


def _serve() -> None:
    # What the Snakefile imports, too.
    import snakemake.cli  # noqa: F401

    from medwvae import config, config_io, paths, provenance, stages  # noqa: F401

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _become_snakemake(**json.loads(line))
            return
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    _serve()
