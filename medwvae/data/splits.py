"""Training, validation and test parts: by subject, never by slice or series."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

from medwvae.errors import InputError
from medwvae.files import atomic
from medwvae.names import PARTS, Part
from medwvae.seeding import seed_for


def split(subjects: Sequence[str], *, fractions: tuple[float, float, float], seed: int) -> dict[str, Part]:
    """Assign every subject to one part; the answer depends on the set of subjects and the seed only.

    Subjects are dealt in the order of a hash of (seed, subject), so that adding subjects moves few of the others.

    Parameters
    ----------
    fractions
        Of train, val and test, with sum 1; rounded by largest remainder, each part gets at least one subject (train
        none, where its fraction is 0).

    Raises
    ------
    InputError
        If there are too few subjects, or the fractions make no sense.
    """
    everyone = sorted(set(subjects))
    uses = ("train", "validate", "test")[0 if fractions[0] else 1 :]
    if len(everyone) < len(uses):
        raise InputError(
            f"a split needs at least {len(uses)} subjects (one each to {', '.join(uses[:-1])} and {uses[-1]}), "
            f"but there are {len(everyone)}; add subjects"
        )
    dealt = iter(sorted(everyone, key=lambda s: seed_for("split", seed, s)))
    counts = zip(PARTS, _counts(len(everyone), fractions), strict=True)
    assigned: dict[str, Part] = {next(dealt): part for part, count in counts for _ in range(count)}
    return dict(sorted(assigned.items()))


def _counts(total: int, fractions: tuple[float, float, float]) -> list[int]:
    """Return the number of subjects per part: largest remainder with at least one each, but no training without."""
    if len(fractions) != len(PARTS) or any(not fraction >= 0 for fraction in fractions):
        raise InputError(f"a split needs three numbers (train, val, test), none negative; got {fractions}")
    if abs(sum(fractions) - 1) > 1e-6:
        raise InputError(f"the fractions of a split must sum to 1; {fractions} sum to {sum(fractions):g}")
    shares = [total * fraction for fraction in fractions]
    counts = [int(share + 1e-9) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda part: counts[part] - shares[part])
    for part in by_remainder[: total - sum(counts)]:
        counts[part] += 1
    needed = [part for part in range(len(PARTS)) if part or fractions[part]]
    while empty := [part for part in needed if not counts[part]]:
        counts[counts.index(max(counts))] -= 1
        counts[empty[0]] += 1
    return counts


def check_disjoint(assignments: Iterable[tuple[str, str]]) -> None:
    """Raise InputError if a subject is assigned to two parts: its images would leak from one into the other."""
    seen: dict[str, str] = {}
    for subject, part in assignments:
        if seen.setdefault(subject, part) != part:
            raise InputError(f"subject {subject} is in both {seen[subject]} and {part}; keep it in one of them")


def write(path: Path, assigned: Mapping[str, Part]) -> None:
    """Write `subject,part` as CSV, sorted by subject, atomically."""
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("subject", "part"))
        writer.writerows(sorted(assigned.items()))


def read(path: Path) -> dict[str, Part]:
    """Return subject -> part from a CSV with the columns `subject` and `part`.

    Raises
    ------
    InputError
        If the file cannot be read, names another part, or puts one subject into two parts.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            if not {"subject", "part"} <= set(reader.fieldnames or ()):
                raise InputError(f"{path}: a split file has the columns subject and part")
            pairs = [((row["subject"] or "").strip(), (row["part"] or "").strip()) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a split file (CSV with the columns subject and part)") from error
    for line, (subject, part) in enumerate(pairs, start=2):
        if not subject or part not in PARTS:
            raise InputError(f"{path}, line {line}: expected a subject and one of {', '.join(PARTS)}")
    try:
        check_disjoint(pairs)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return cast(dict[str, Part], dict(sorted(pairs)))
