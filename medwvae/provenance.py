"""Digests of configuration and code, and what a result was made with."""

import ast
import hashlib
import json
import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from medwvae.names import ZERO_SHOT

PACKAGE = Path(__file__).parent

ENTRY = {
    "phantom": "medwvae.data.phantom.cohort",
    "ingest": "medwvae.data.ingest",
    "split": "medwvae.data.splits",
    "preprocess": "medwvae.data.transforms",
    "train": "medwvae.train",
    "restore": "medwvae.restore",
    "evaluate": "medwvae.evaluate",
    "report": "medwvae.report.card",
    "train_generative": "medwvae.generative.sources",
    "train_prior": "medwvae.generative.sources",
    "score_generative": "medwvae.generative.scoring",
    "generative_references": "medwvae.generative.scoring",
    "generative_report": "medwvae.generative.table",
    "generative_uses": "medwvae.latents.uses",
}
"""The module in which the work of each stage starts; its imports are the code that decides the stage's result."""


def digest_of(value: Any) -> str:
    """Return the SHA-256 (12 hex digits) of a JSON-ready value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def imports_of(module: str) -> frozenset[str]:
    """Return the medwvae modules that a module imports anywhere in its text."""
    tree = ast.parse(_file_of(module).read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(name for name in found if name.split(".")[0] == "medwvae" and _file_of(name).is_file())


@cache
def code_digest(*modules: str) -> str:
    """Return the digest of modules and of all of medwvae that they import, directly or not."""
    seen: set[str] = set()
    queue = list(modules)
    while queue:
        module = queue.pop()
        if module not in seen:
            seen.add(module)
            queue += imports_of(module)
    files = {_file_of(name) for name in seen}
    # Templates and styles beside a package's code are code too.
    files |= {asset for f in files if f.name == "__init__.py" for asset in f.parent.glob("*.[hcj][ts]*")}
    return digest_of({str(f.relative_to(PACKAGE)): hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(files)})


def stage_code(stage: str, method: str | None = None) -> str:
    """Return the code digest of a stage (of one network's training or restoration, where `method` names one)."""
    network = f"medwvae.nets.{method}"
    modules = [ENTRY[stage]] + ([network] if method and _file_of(network).is_file() else [])
    if stage == "restore":
        tuned = ["medwvae.zero_shot" if method == ZERO_SHOT else "medwvae.baselines", "medwvae.baselines.tuning"]
        modules += ["medwvae.self_supervision"] if len(modules) > 1 else tuned
    return code_digest(*modules)


_SHOWN = (
    "medwvae",
    "torch",
    "monai",
    "lightning-fabric",
    "snakemake",
    "scikit-image",
    "PyWavelets",
    "pydicom",
    "nibabel",
)


def versions(*names: str) -> dict[str, str]:
    """Return the versions of packages (of medwvae and its main dependencies where none is named) and of Python."""
    names = names or _SHOWN
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def machine() -> dict[str, str]:
    """Return what the work ran on; no host or user name."""
    return {"system": platform.system(), "processor": _processor(), "cores": str(os.cpu_count() or "?")}


def revision() -> str:
    """Return the git commit of the code, or 'unknown' outside a checkout."""
    try:
        answer = subprocess.run(  # noqa: S603 -- fixed arguments, no shell
            ["git", "-C", str(PACKAGE), "describe", "--always", "--dirty"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return answer.stdout.strip() or "unknown"


def _file_of(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
