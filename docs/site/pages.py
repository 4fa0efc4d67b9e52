"""A hook of MkDocs: pages that are made of the repository's own files, each of which stays in its one place.

Home is README.md; the changelog is CHANGELOG.md; a file that a page links to is shown on a page of its own; the
reference lists every package, its public names from the docstrings, and what each subcommand says of itself.
"""

import ast
import re
from pathlib import Path
from typing import cast

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.core import TyperGroup

from medwvae import cli

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "medwvae"
OWN = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"(?<=\]\()(?!https?:|#)(?P<path>[^)#\s]+)")
LANGUAGE = {".py": "python", ".smk": "python", ".yaml": "yaml", ".json": "json", ".csv": "text", ".toml": "toml"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages of the packages where the navigation says `api`."""
    reference = next(entry["Reference"] for entry in config.nav or [] if "Reference" in entry)
    place = reference.index("api")
    reference[place] = {"Python": [{name: _page(name)} for name in packages()]}
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made of other files."""
    texts = {page: (ROOT / source).read_text(encoding="utf-8") for source, page in OWN.items()}
    pages = {page: _moved(text) for page, text in texts.items()}
    pages |= {_page(name): _package(name) for name in packages()}
    pages["commands.md"] = _commands()
    for file in list(files):
        if file.is_documentation_page():
            pages |= {_shown(path): _file(path) for path in _outside(file.content_string)}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links out of docs/ to the pages of those files."""
    return LINK.sub(lambda found: _inside(found["path"]), markdown)


def packages() -> list[str]:
    """Return the dotted name of every package."""
    folders = [PACKAGE, *(file.parent for file in sorted(PACKAGE.glob("*/**/__init__.py")))]
    return [".".join(folder.relative_to(ROOT).parts) for folder in folders]


def _page(package: str) -> str:
    return f"{package}.md"  # beside the others, for docstrings name these


def _package(name: str) -> str:
    """Return the page of a package: what it exports; of one that exports nothing, its modules' public names."""
    folder = ROOT.joinpath(*name.split("."))
    lines = [f"# {name}", ""]
    if "__all__" in (folder / "__init__.py").read_text(encoding="utf-8"):
        return "\n".join(
            [*lines, f"::: {name}", "    options: { show_root_heading: false, show_root_toc_entry: false }"]
        )
    lines += [ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or "", ""]
    for file in sorted(folder.glob("*.py")):
        if file.stem != "__init__":
            lines += [f"::: {name}.{file.stem}", ""]
    return "\n".join(lines)


def _commands() -> str:
    """Return the help of every subcommand."""
    group = cast(TyperGroup, typer.main.get_command(cli.app))
    lines = ["# Commands", "", "What `medwvae <name> --help` says.", ""]
    with typer.Context(group, info_name="medwvae") as above:
        for name in group.list_commands(above):
            command = group.get_command(above, name)
            with typer.Context(command, info_name=name, parent=above, max_content_width=100) as context:
                lines += [f"## {name}", "", "```text", command.get_help(context).rstrip(), "```", ""]
    return "\n".join(lines)


def _outside(text: str) -> set[str]:
    """Return the files outside docs/ that a page links to and that have no page yet."""
    found = {match["path"].removeprefix("../") for match in LINK.finditer(text) if match["path"].startswith("../")}
    return {path for path in found if path not in OWN and (ROOT / path).is_file()}


def _shown(path: str) -> str:
    return f"files/{path}.md"


def _file(path: str) -> str:
    text = (ROOT / path).read_text(encoding="utf-8")
    fence = f"{LANGUAGE.get(Path(path).suffix, 'text')}\n{text.rstrip()}"
    return f"---\nsearch: {{ exclude: true }}\n---\n\n# {path}\n\n````{fence}\n````\n"


def _inside(path: str) -> str:
    outside = path.removeprefix("../")
    if outside == path:
        return path
    return OWN.get(outside, _shown(outside))


def _moved(text: str) -> str:
    """Return a page of the repository's root as one in docs/."""
    return LINK.sub(lambda found: _from_root(found["path"]), text)


def _from_root(path: str) -> str:
    return path.removeprefix("docs/") if path.startswith("docs/") else f"../{path}"
