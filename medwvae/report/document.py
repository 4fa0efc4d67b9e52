"""A short document of headings, sentences, lists and tables, as Markdown and as HTML; all of its text is escaped."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from medwvae.report.text import environment, markdown

NOT_FOR_DIAGNOSIS: Final = "For research. Not a medical device; not for diagnosis."


@dataclass(frozen=True)
class Table:
    """A table: `head` names the columns, each of `rows` has as many cells."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A heading with sentences, then facts by name, then a list, then tables; any of them may be empty."""

    title: str
    sentences: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()
    items: Sequence[str] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Document:
    """A document; its texts may come from data and hold anything."""

    title: str
    eyebrow: str
    sections: Sequence[Section] = field(default_factory=tuple)


def as_html(document: Document) -> str:
    """Return one self-contained page: no script, nothing loaded from anywhere."""
    return str(environment().get_template("document.html").render(document=document))


def as_markdown(document: Document) -> str:
    """Return Markdown (CommonMark with tables) in which every text shows as it is."""
    lines = [f"# {markdown(document.title)}", "", markdown(document.eyebrow), ""]
    for section in document.sections:
        lines += [f"## {markdown(section.title)}", ""]
        for sentence in section.sentences:
            lines += [markdown(sentence, 2000), ""]
        for name, text in section.facts:
            lines.append(f"- **{markdown(name)}**: {markdown(text, 600)}")
        lines += [f"- {markdown(item, 600)}" for item in section.items]
        if section.facts or section.items:
            lines.append("")
        for table in section.tables:
            if table.caption:
                lines += [f"*{markdown(table.caption)}*", ""]
            rows = [table.head, ["---"] * len(table.head), *table.rows]
            escaped = (row if k == 1 else [markdown(cell) or " " for cell in row] for k, row in enumerate(rows))
            lines += ["| " + " | ".join(row) + " |" for row in escaped]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"
