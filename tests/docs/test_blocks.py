"""What the documentation tells people to type is what the program understands.

Every block has a kind. Of commands, those that take long (`make demo`, trainings, whole studies) are checked and not
run: a subcommand's own parser takes its options, Snakemake's parser those of a workflow, the configuration loads with
the given files and keys, a target of `make` exists, and so does every file of the project that is named.
`test_running.py` and `tests/workflow/test_docs.py` run what is cheap; configuration is loaded and its networks are
built here; Python runs in `test_python.py`.
"""

import argparse
import re
import warnings
from collections.abc import Callable
from functools import cache

import pytest
import typer
from typer.core import TyperGroup

from medwvae import build, cli, stages
from medwvae.config_io import load
from tests.docs.blocks import KINDS, PROGRAMS, REPOSITORY, Block, blocks, commands

FOLDERS = ("benchmarks/", "configs/", "containers/", "docs/", "workflows/")


def named(cases):
    return [pytest.param(*case, id=f"{case[0]}-{' '.join(case[1])[:60]}") for case in cases]


@pytest.mark.parametrize("block", blocks(), ids=str)
def test_every_block_has_a_kind(block: Block):
    assert block.kind in KINDS, "start the fence with ```bash, ```yaml, ```python, or ```text if nobody types it"
    assert block.text.strip()


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_configuration_loads_and_its_networks_are_built(block: Block, tmp_path):
    (tmp_path / "given.yaml").write_text(block.text, encoding="utf-8")
    config = load([tmp_path / "given.yaml"])
    for task, name in stages.networks_trained(config):
        assert build.network(config, task, name) is not None
    for problem in config.problems():
        assert build.degradation(config, problem.id) is not None


@pytest.mark.parametrize(("block", "words"), named(commands()))
def test_a_command_is_understood(block: Block, words: list[str]):
    assert words[0] in PROGRAMS
    for word in words:
        path = word.rpartition("=")[2]
        if path.startswith(FOLDERS):
            assert (REPOSITORY / path).exists(), f"{path} is not in the project"
    CHECKS.get(words[0], lambda words: None)(words)


def of_medwvae(words: list[str]) -> None:
    group = typer.main.get_command(cli.app)
    assert isinstance(group, TyperGroup)
    with typer.Context(group, info_name="medwvae") as above:
        if words[1:] == ["--help"]:
            assert group.get_help(above)
            return
        command = group.get_command(above, words[1])
        assert command is not None, f"no subcommand {words[1]}"
        given = command.make_context(words[1], words[2:], parent=above)
        assert not given.args
    load(overrides=list(given.params.get("overrides") or ()))


@cache
def snakemakes_parser() -> argparse.ArgumentParser:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from snakemake.cli import get_argument_parser

        parser: argparse.ArgumentParser = get_argument_parser()
        return parser


def of_snakemake(words: list[str]) -> None:
    from snakemake.cli import parse_config

    given = snakemakes_parser().parse_args(words[1:])
    # Files of the reader's own are not here.
    files = [REPOSITORY / file for file in given.configfile or () if (REPOSITORY / file).is_file()]
    config = load(files, parse_config(given.config))
    assert given.workflow_profile is None or (REPOSITORY / given.workflow_profile).is_dir()
    for target in given.targets or ():
        assert target.startswith(str(config.root))


def of_make(words: list[str]) -> None:
    targets = re.findall(r"^([a-z][a-z-]*):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(words[1:]) <= set(targets)


def of_python(words: list[str]) -> None:
    if words[1] == "-m":
        return
    script = REPOSITORY / words[1]
    beside = "".join(file.read_text(encoding="utf-8") for file in script.parent.glob("*.py"))
    for option in words[2:]:
        assert not option.startswith("--") or f'"{option}"' in beside, f"{words[1]} has no {option}"


def of_pip(words: list[str]) -> None:
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    for extra in re.findall(r"\[([a-z,]+)\]", " ".join(words)):
        assert all(re.search(rf"^{name} = \[", text, re.MULTILINE) for name in extra.split(","))


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "medwvae": of_medwvae,
    "snakemake": of_snakemake,
    ".venv/bin/snakemake": of_snakemake,
    "make": of_make,
    "python": of_python,
    "pip": of_pip,
}
