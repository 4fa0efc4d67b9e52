"""The benchmark scripts, which no type checker reads and whose extras few have."""

import ast
import importlib.util
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_what_they_import_of_the_project_is_there(script):
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "medwvae":
            module = importlib.import_module(node.module or "")
            for name in (alias.name for alias in node.names):
                found = hasattr(module, name) or importlib.util.find_spec(f"{node.module}.{name}") is not None
                assert found, f"{node.module} has no {name}"
