"""A DICOM tree without identity; needs no study and no configuration."""

from pathlib import Path
from typing import Any

from medwvae.errors import InputError
from medwvae.progress import bar, hide, say


def deidentify(source: Path, out: Path, key: Path | None, dates: Any, threads: int) -> None:
    """Clean a tree; without a key file, one is made beside the output folder, not in it."""
    from medwvae.data.deidentify_tree import deidentify as clean

    if dates not in ("shift", "remove"):
        raise InputError(f"--dates is {dates}, expected shift or remove")
    key = key or out.resolve().with_name(f"{out.resolve().name}-private") / "key"
    hide(key.parent, "folder of the key")
    with bar("deidentify") as shown:
        outcome = clean(
            source, out, key_file=key, dates=dates, workers=threads, advance=lambda d, n: shown.update(d / n)
        )
    say(
        f"deidentify: {outcome.written} files written, {len(outcome.refused)} refused (see refused.csv), "
        f"{outcome.copies} copies and {outcome.others} files that are no DICOM left out; what was done: audit.csv"
    )
    say("Look at the pixels before you give the images away: burned-in text and faces are not removed.")
