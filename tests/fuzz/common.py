"""Damage that any file can take, whatever its format."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

Rng = np.random.Generator
Mutation = Callable[[Rng, bytes], bytes]
Choice = TypeVar("Choice")


def pick(rng: Rng, choices: Sequence[Choice]) -> Choice:
    """Return one of the choices (NumPy's own `choice` would turn them into an array)."""
    return choices[int(rng.integers(len(choices)))]


def flip(rng: Rng, data: bytes, reach: int | None = None) -> bytes:
    """Replace some bytes, most often in the first `reach`."""
    raw = bytearray(data)
    end = min(len(raw), reach or len(raw)) if rng.random() < 0.8 else len(raw)
    for _ in range(int(rng.integers(1, 12)) if end else 0):
        raw[int(rng.integers(end))] = pick(rng, (int(rng.integers(256)), 0, 255, 1, 127, 128))
    return bytes(raw)


def cut(rng: Rng, data: bytes) -> bytes:
    """Cut the file short, at any place or within the last few bytes."""
    return data[: int(rng.integers(len(data) + 1)) if rng.random() < 0.7 else max(len(data) - int(rng.integers(9)), 0)]


def insert(rng: Rng, data: bytes) -> bytes:
    """Put chance bytes, or a piece of the file itself, into the middle."""
    at, start = (int(rng.integers(len(data) + 1)) for _ in range(2))
    count = int(rng.integers(1, 300))
    piece = rng.bytes(count) if rng.random() < 0.5 else data[start : start + count]
    return data[:at] + piece + data[at:]


def remove(rng: Rng, data: bytes) -> bytes:
    """Take a piece out of the middle."""
    at = int(rng.integers(len(data) + 1))
    return data[:at] + data[at + int(rng.integers(1, 300)) :]


def blank(rng: Rng, data: bytes) -> bytes:
    """Set a block to zero, as an interrupted copy leaves it."""
    at = int(rng.integers(len(data) + 1))
    block = data[at : at + int(rng.integers(1, 2000))]
    return data[:at] + b"\0" * len(block) + data[at + len(block) :]


ANY_FILE: tuple[Mutation, ...] = (flip, cut, insert, remove, blank)
