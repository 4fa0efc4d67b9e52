"""Text that comes from data, made harmless: on one line, of a length, escaped for HTML or Markdown."""

import re
import unicodedata
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

MOST = 200
"""Characters that a text from data may take."""


def one_line(text: object, most: int = MOST) -> str:
    """Return text on one line without control or direction characters (each is shown as �), cut with … after `most`.

    What turns the direction of writing could make a sentence say something else to its reader than to a search.
    """
    line = _seen(re.sub(r"\s+", " ", str(text)[: 4 * most]).strip())
    return line if len(line) <= most and len(str(text)) <= 4 * most else line[: most - 1].rstrip() + "…"


def _seen(text: str, keep: str = "") -> str:
    if text.isprintable():  # at once, for a picture's address is long
        return text
    hidden = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
    return "".join("\ufffd" if unicodedata.category(c) in hidden and c not in keep else c for c in text)


def finalized(value: object) -> object:
    """Return what a template is about to write, every control and direction character of it shown as �.

    Markup and numbers go through. A new line, a tab and the word joiner, which the report itself writes, stay.
    """
    return _seen(value, "\n\t\u2060") if isinstance(value, str) and not isinstance(value, Markup) else value


def markdown(text: object, most: int = MOST) -> str:
    """Return text that Markdown shows as it is, `one_line` long: no HTML, no link, no heading, no cell of a table."""
    line = one_line(text, most).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*_\[\]|~$])", r"\\\1", line)
    line = re.sub(r"^(\d+)([.)])(?= |$)", r"\1\\\2", line)  # would begin a numbered list
    line = re.sub(r"^([-=:#+])", r"\\\1", line)  # would begin a list or underline a heading
    return re.sub(r"(https?|ftp|mailto|www)([:.])", r"\1&#8203;\2", line, flags=re.IGNORECASE)


def environment() -> Environment:
    """Return the templates of this folder; they escape everything, and `line` is `one_line`."""
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["line"] = one_line
    return found
