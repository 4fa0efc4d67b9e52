"""Who is in a study: rows of text for the report, the model card and the data sheet."""

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd

from medwvae.names import PARTS
from medwvae.report.words import CONTRAST_LABELS, label

UNUSED: Final = "unused"
"""Status of a usable image that the study left out, by its contrast or because it has no head to scale by."""
PART_LABELS: Final = {"train": "training", "val": "validation", "test": "test", "none": "not used"}


def cohort_rows(manifest: pd.DataFrame, splits: Mapping[str, str]) -> list[dict[str, str]]:
    """Return one row of text per part that has usable volumes."""
    usable = manifest[manifest["status"] == "ok"]
    part_of = usable["subject"].astype(str).map(lambda subject: splits.get(subject, "none"))
    rows = []
    for part in (*PARTS, "none"):
        of_part = usable[part_of == part]
        if of_part.empty:
            continue
        people = of_part.drop_duplicates("subject")
        ages = pd.to_numeric(people["age"], errors="coerce").dropna()
        contrasts = of_part["contrast"].astype(str).value_counts()
        rows.append(
            {
                "part": PART_LABELS[part],
                "subjects": str(len(people)),
                "volumes": str(len(of_part)),
                "contrasts": ", ".join(f"{n} {label(str(name), CONTRAST_LABELS)}" for name, n in contrasts.items()),
                "age": _ages(ages, len(people)),
                "sex": _sexes(people["sex"]),
                "spacing": listed(of_part["spacing"].str.replace("x", " × "), most=2),
            }
        )
    return rows


def _ages(ages: pd.Series, n: int) -> str:
    if ages.empty:
        return "not known"
    text = f"{ages.mean():.0f} ({ages.min():.0f}–{ages.max():.0f})"
    return text if len(ages) == n else f"{text}, {n - len(ages)} not known"


def _sexes(sexes: pd.Series) -> str:
    letters = sexes.dropna().astype(str)
    letters = letters[letters != ""]
    known = ", ".join(f"{n} {sex}" for sex, n in letters.value_counts().sort_index().items())
    unknown = len(sexes) - len(letters)
    return ", ".join(filter(None, (known, f"{unknown} not known" if unknown and known else ""))) or "not known"


def counted(manifest: pd.DataFrame) -> str:
    """Return how many images are not part of the study, to stand behind the number of those that are; or ''."""
    counts = manifest["status"].value_counts()
    unused, refused = (int(counts.get(status, 0)) for status in (UNUSED, "refused"))
    return (f", {unused} usable but not taken into the study" if unused else "") + (
        f", {refused} refused" if refused else ""
    )


def refused_rows(manifest: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the reasons for which images were refused, how many of each, and which."""
    refused = manifest[manifest["status"] == "refused"]
    return [
        {"reason": str(reason), "n": len(rows), "volumes": listed(rows["volume"], most=6)}
        for reason, rows in refused.groupby("reason", sort=True)
    ]


def listed(values: pd.Series, most: int = 4) -> str:
    """Return the different values as one text, at most `most` of them by name."""
    names = sorted({str(value) for value in values.dropna()} - {"", "nan"})
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
