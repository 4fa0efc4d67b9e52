"""Atomic checkpoints that load without executing anything."""

import os
from pathlib import Path
from typing import Any

import torch

from medwvae.errors import InputError
from medwvae.files import atomic


def save(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values; a reader sees the old file or the new one, never half of one.

    The bytes are on the disk before the file is renamed: a node that dies leaves the old checkpoint or the new one.
    """
    with atomic(path) as temporary, temporary.open("wb") as handle:  # torch's own file does not say why it failed
        torch.save(state, handle)
        handle.flush()
        os.fsync(handle.fileno())


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote (`weights_only`: no code in the file can run).

    Raises
    ------
    InputError
        If the file is missing or is no checkpoint that can be read.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such checkpoint; run `medwvae train` first") from error
    except Exception as error:  # torch raises many kinds for a damaged file
        reason = type(error).__name__
        raise InputError(f"{path}: damaged or no checkpoint ({reason}); delete this file and train again") from error
    return state
