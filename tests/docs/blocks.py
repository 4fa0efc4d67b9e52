"""The fenced blocks of the documentation, and what kind each is: commands, configuration, Python, text."""

import re
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path

import yaml

from medwvae.config import Config

REPOSITORY = Path(__file__).parents[2]
PAGES = (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
KINDS = ("bash", "yaml", "python", "text")
OURS = ("medwvae", "snakemake", ".venv/bin/snakemake", "make", "python", "pip")
PROGRAMS = frozenset((*OURS, "python3", "export", ".", "cp", "ls", "cut", "head", "grep", "apptainer", "docker"))
_FENCE = re.compile(r"^(?P<indent> *)```(?P<tag>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Parameters
    ----------
    page
        File name of the page.
    line
        Where the block opens, from 1.
    kind
        One of `KINDS`, or "" if it has no tag and is neither commands nor configuration.
    """

    page: str
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(kind: str | None = None) -> list[Block]:
    """Return the blocks of all pages, or those of one kind."""
    found = [block for page in PAGES for block in _of(page.name, page.read_text(encoding="utf-8"))]
    return [block for block in found if kind is None or block.kind == kind]


def commands() -> list[tuple[Block, list[str]]]:
    """Return every simple command, in words; what is joined by `&&` or `|` is several."""
    found = []
    for block in blocks("bash"):
        for line in block.text.replace("\\\n", " ").splitlines():
            found += [(block, words) for words in _simple(line)]
    return found


def _of(page: str, text: str) -> list[Block]:
    return [
        Block(page, text[: found.start()].count("\n") + 1, found["tag"] or _guessed(body), body)
        for found in _FENCE.finditer(text)
        for body in [textwrap.dedent(found["text"])]
    ]


def _guessed(text: str) -> str:
    first = [line.split()[0] for line in text.splitlines() if line.strip() and not line.startswith(("#", " "))]
    if all(word in PROGRAMS for word in first):
        return "bash"
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        return ""
    return "yaml" if isinstance(content, dict) and set(content) <= set(Config.model_fields) else ""


def _simple(line: str) -> list[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("|&;"):
            found.append([])
        elif word != "...":
            found[-1].append(word)
    return [words for words in found if words]
