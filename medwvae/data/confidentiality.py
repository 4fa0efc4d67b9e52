"""The action table of DICOM PS3.15 Annex E, Basic Application Level Confidentiality Profile (Table E.1-1).

`confidentiality.csv` beside this file holds edition 2026c, one row per attribute: tag, keyword, action. Its facts are
the standard's; they were transcribed from the lists of dicom-anonymizer 2.1.0 (BSD-3-Clause), which are generated from
the standard's text.
"""

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final, Literal

EDITION: Final = "2026c"

Step = Literal["keep", "remove", "empty", "dummy", "uid", "recurse"]
"""What to do with one element; `recurse` and `keep` both clean the items of a sequence."""

_FAMILIES: Final = (0x5000, 0x6000)  # curves and overlays: the groups 50xx and 60xx, even ones


@cache
def table() -> Mapping[str, str]:
    """Return the action per tag (`00100010`; `60xx3000` for a repeating group)."""
    with Path(__file__).with_name("confidentiality.csv").open(newline="", encoding="ascii") as handle:
        return {row["tag"]: row["action"] for row in csv.DictReader(handle)}


def action_of(tag: int) -> str:
    """Return the table's action of an attribute, or nothing where the table does not name it.

    Private attributes (odd groups), curves and whole overlay groups (not their data alone: a description or a label
    without its graphics serves nobody) are `X`.
    """
    group = tag >> 16
    if group % 2 or group & 0xFF00 in _FAMILIES:
        return "X"
    return table().get(f"{tag:08x}", "")


def step_of(action: str, vr: str) -> Step:
    """Return what an action means for an element of one value representation.

    A combined action leaves the choice to the type that the attribute has in its object (PS3.15 E.1.1: X for type 3,
    Z for type 2, D for type 1). As the type is not looked up, the choice is the one that is valid for all of them:
    the last letter. For a sequence, no dummy item can be made up: it is emptied, unless X is all that is left.
    """
    if vr == "SQ":
        return "recurse" if "U" in action or not action else "remove" if action in ("X", "X/D") else "empty"
    last: dict[str, Step] = {"": "keep", "X": "remove", "Z": "empty", "D": "dummy", "U": "uid", "U*": "uid"}
    step = last[action.rpartition("/")[2]]
    return "uid" if step == "dummy" and vr == "UI" else step


def dummy_of(vr: str) -> str | int | float | bytes:
    """Return a value without meaning that is valid for a value representation (action D)."""
    if vr in ("US", "SS", "UL", "SL", "UV", "SV", "AT"):
        return 0
    if vr in ("FL", "FD"):
        return 0.0
    if vr in ("OB", "OD", "OF", "OL", "OV", "OW", "UN"):
        return b"\0" * 8
    return {
        "AS": "000Y",
        "DA": "19000101",
        "DS": "0",
        "DT": "19000101000000",
        "IS": "0",
        "TM": "000000",
        "UR": "about:blank",
    }.get(vr, "REMOVED")
