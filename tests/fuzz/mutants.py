"""A mutant for every number: the same seed and number give the same bytes, on every machine."""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from tests.data.series import image_of
from tests.fuzz import dicom_mutations, nifti_mutations
from tests.fuzz.common import Mutation, Rng, pick
from tests.fuzz.seeds import Seed, dicom_seeds, nifti_seeds, series

Kind = Literal["dicom", "nifti", "folder"]
FOLDER_EVERY = 50
SOUND_SHAPE = "10x14x4"
"""Shape of the sound series in every folder; no other image has it."""


@dataclass(frozen=True)
class Mutant:
    """The files of one damaged image (or, of kind `folder`, of several and a sound one) by relative path."""

    kind: Kind
    name: str
    files: dict[str, bytes]


@cache
def _seeds() -> tuple[list[Seed], list[Seed], Seed]:
    return dicom_seeds(), nifti_seeds(), series("sound", image_of(4, 14, 10, seed=5))


def draw(seed: int, index: int) -> Mutant:
    """Return mutant `index` of a campaign."""
    rng = np.random.default_rng([seed, index])
    if index % FOLDER_EVERY == FOLDER_EVERY - 1:
        return _folder(rng)
    return _one(rng, "dicom" if rng.random() < 0.6 else "nifti")


def _one(rng: Rng, kind: Kind) -> Mutant:
    dicoms, niftis, _ = _seeds()
    seed = pick(rng, dicoms if kind == "dicom" else niftis)
    changes = (dicom_mutations if kind == "dicom" else nifti_mutations).MUTATIONS
    chosen = [pick(rng, changes) for _ in range(pick(rng, (1, 1, 1, 2, 3)))]
    files = dict(seed.files)
    # One damaged slice of many, or a fault that all slices share: checks between slices see the first only.
    names = list(files) if rng.random() < 0.5 else [pick(rng, list(files))]
    own = int(rng.integers(2**32))
    for name in names:
        files[name] = _changed(np.random.default_rng(own), chosen, files[name])
    return Mutant(kind, f"{seed.name}: {', '.join(change.__name__ for change in chosen)}", files)


def _changed(rng: Rng, chosen: list[Mutation], data: bytes) -> bytes:
    for change in chosen:
        data = change(rng, data)
    return data


def _folder(rng: Rng) -> Mutant:
    files = {f"sound/{name}": data for name, data in _seeds()[2].files.items()}
    names = []
    for k in range(4):
        member = _one(rng, "dicom" if k % 2 else "nifti")
        names.append(member.name)
        files |= {f"{k}/{name}": data for name, data in member.files.items()}
    return Mutant("folder", " | ".join(names), files)
