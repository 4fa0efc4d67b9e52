"""Training, validation and test parts: by subject, never by slice or series."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

from medwvae.errors import InputError
from medwvae.files import atomic
from medwvae.names import PARTS, Part
from medwvae.seeding import seed_for


def split(
    subjects: Sequence[str],
    *,
    fractions: tuple[float, float, float] | tuple[int, int, int],
    seed: int,
    pinned: Mapping[str, Part] | None = None,
) -> dict[str, Part]:
    """Assign every subject to one part; the answer depends on the set of subjects and the seed only.

    Subjects are dealt in the order of a hash of (seed, subject), so that adding subjects moves few of the others.

    Parameters
    ----------
    fractions
        Of train, val and test: three fractions with sum 1 (rounded by largest remainder, each part gets at least one
        subject), or three whole numbers of subjects whose sum is the number of subjects.
    pinned
        Subjects whose part is given; the others fill the parts up.

    Raises
    ------
    InputError
        If there are too few subjects, the fractions make no sense, or a pinned subject is unknown.
    """
    everyone = sorted(set(subjects))
    if len(everyone) < len(PARTS):
        raise InputError(
            f"a split needs at least {len(PARTS)} subjects (one each to train, validate and test), "
            f"but there are {len(everyone)}; add subjects"
        )
    fixed = dict(pinned or {})
    if unknown := sorted(set(fixed) - set(everyone)):
        raise InputError(f"the split pins {len(unknown)} subjects that are not there, first {unknown[0]!r}")
    counts = _counts(len(everyone), fractions)
    need = {
        part: max(count - sum(p == part for p in fixed.values()), 0) for part, count in zip(PARTS, counts, strict=True)
    }
    free = sorted((s for s in everyone if s not in fixed), key=lambda s: seed_for("split", seed, s))
    while sum(need.values()) > len(free):  # a part was pinned beyond its share: the largest of the others gives way
        need[max(PARTS, key=need.__getitem__)] -= 1
    assigned = dict(fixed)
    remaining = iter(free)
    for part in PARTS:
        assigned.update((next(remaining), part) for _ in range(need[part]))
    if missing := [part for part in PARTS if part not in assigned.values()]:
        raise InputError(f"the pinned subjects leave nobody for {' and '.join(missing)}; pin fewer")
    return {subject: assigned[subject] for subject in everyone}


def _counts(total: int, fractions: tuple[float, float, float] | tuple[int, int, int]) -> list[int]:
    """Return the number of subjects per part: exact counts, or largest remainder with at least one each."""
    if len(fractions) != len(PARTS) or any(not fraction >= 0 for fraction in fractions):
        raise InputError(f"a split needs three numbers (train, val, test), none negative; got {fractions}")
    if all(isinstance(fraction, int) for fraction in fractions):
        if sum(fractions) != total or min(fractions) < 1:
            raise InputError(f"the split {fractions} must give each part a subject and sum to all {total} subjects")
        return [int(count) for count in fractions]
    if abs(sum(fractions) - 1) > 1e-6:
        raise InputError(f"the fractions of a split must sum to 1; {fractions} sum to {sum(fractions):g}")
    shares = [total * fraction for fraction in fractions]
    counts = [int(share + 1e-9) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda part: counts[part] - shares[part])
    for part in by_remainder[: total - sum(counts)]:
        counts[part] += 1
    while min(counts) < 1:
        counts[counts.index(max(counts))] -= 1
        counts[counts.index(min(counts))] += 1
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
