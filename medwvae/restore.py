"""Whole volumes back onto the canonical grid; one function for every kind of method."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medwvae import paths
from medwvae.data import nifti
from medwvae.data.loaders import Case
from medwvae.degradation import Degradation, Simulated
from medwvae.errors import MedwvaeError
from medwvae.files import atomic
from medwvae.inference.footprint import Footprint
from medwvae.inference.restorers import footprint_of, mirrored, restore_volume, restore_volume_with_spread
from medwvae.load import Load
from medwvae.nets.restorer import Restorer
from medwvae.operators import Measurement, magnitude
from medwvae.precision import exact_float32
from medwvae.seeding import seed_for
from medwvae.statistics import Calibration, calibrate, scores
from medwvae.unsupported import unsupported_detail

Method = Callable[[Measurement], Tensor]
"""Measurement of a whole volume (S slices) to the magnitude image (S, 1, H, W), network units."""

SpreadMethod = Callable[[Measurement, int], tuple[Tensor, Tensor]]
"""Measurement of a whole volume and a seed to the magnitude image and its spread, both (S, 1, H, W)."""


TIMED = 2
"""Volumes whose time is taken, of a method that is also asked for its spread."""


@dataclass
class Record:
    """What is known about a restoration."""

    kind: str
    seconds_per_volume: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Acquisition:
    """How whole volumes are measured, each as one acquisition; seeded by subject: every method meets the same input.

    Attributes
    ----------
    degrade : Degradation
    seed : int
    task : str
        Without its setting: a network trained for one setting and one trained for several meet the same input.
    steps : int, optional
        By how many steps of conjugate gradients answers agree with exact data; None for as many as pay
        (`Measurement.thorough`).
    """

    degrade: Degradation
    seed: int
    task: str
    steps: int | None = None

    def __call__(self, case: Case, again: int = 0) -> Simulated:
        """Measure a volume. Measured `again` (1, 2, ...), noise and masks are others."""
        generator = torch.Generator().manual_seed(self._seed(case, again))
        simulated = self.degrade(case.slices(), case.maximum(), generator, None)
        return replace(simulated, measurement=simulated.measurement.thorough(self.steps))

    def draws(self, case: Case, again: int = 0) -> int:
        """Return the seed of the posterior draws of a volume's answer."""
        return self._seed(case, again, "draws")

    def _seed(self, case: Case, again: int, *what: str) -> int:
        return seed_for(self.seed, *what, self.task, case.subject, case.volume, *_nth(again))


def network_method(
    model: Restorer,
    *,
    self_ensemble: bool,
    batch: int,
    precision: str,
    device: str = "cpu",
    max_memory: int | None = None,
) -> Method:
    """Return the restoration of a trained network.

    A network on slices gets at most `batch` of them at once; one on volumes as much of a volume as the memory holds.
    `max_memory` is in bytes; see `medwvae.inference.whole.infer`.
    """
    flips = mirrored(model.dims) if self_ensemble else ((),)
    model = model.to(torch.device(device)).eval()
    mixed = autocast_type(precision)
    known: list[Footprint] = []

    def restore(measurement: Measurement) -> Tensor:
        exact_float32(precision)
        if not known:
            known.append(footprint_of(model, measurement))
        return restore_volume(
            model, measurement, flips, footprint=known[0], max_memory=max_memory, slices=batch, mixed=mixed
        )

    return restore


def network_spread_method(
    model: Restorer,
    *,
    draws: int,
    self_ensemble: bool,
    batch: int,
    precision: str,
    device: str = "cpu",
    max_memory: int | None = None,
) -> SpreadMethod:
    """Return the restoration of a trained network that is `uncertain`, with its spread; see `network_method`."""
    flips = mirrored(model.dims) if self_ensemble else ((),)
    model = model.to(torch.device(device)).eval()
    mixed = autocast_type(precision)
    known: list[Footprint] = []

    def restore(measurement: Measurement, seed: int) -> tuple[Tensor, Tensor]:
        exact_float32(precision)
        if not known:
            known.append(footprint_of(model, measurement, spread=True))
        return restore_volume_with_spread(
            model,
            measurement,
            flips,
            draws=draws,
            seed=seed,
            footprint=known[0],
            max_memory=max_memory,
            slices=batch,
            mixed=mixed,
        )

    return restore


def autocast_type(precision: str) -> torch.dtype | None:
    """Return the type of autocast of a precision as Lightning names it; None for float32."""
    return {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)


def calibrated(
    cases: Sequence[Case],
    method: SpreadMethod,
    acquire: Acquisition,
    *,
    level: float,
    bounded: bool = False,
    measurements: int = 1,
    advance: Callable[[], None] = lambda: None,
) -> Calibration:
    """Restore validation volumes and find how many spreads wide an interval must be; see `statistics.calibrate`.

    The error is that of the magnitude, in the head. Each volume is measured `measurements` times, or once where nothing
    is drawn by chance: with one mask a subject, an unlucky one among few subjects would make all intervals too wide.
    """
    found: dict[str, list[NDArray[np.float32]]] = {}
    for case in cases:
        head, before = case.prepared.head, None
        for again in range(measurements):
            measurement = acquire(case, again).measurement
            if before is not None and torch.equal(before, measurement.start):
                break
            before = measurement.start
            answer, spread = method(measurement, acquire.draws(case, again))
            error = (answer[:, 0].numpy() - case.prepared.image)[head]
            places = seed_for(acquire.seed, "calibration", case.subject, case.volume, *_nth(again))
            found.setdefault(case.subject, []).append(scores(error, spread[:, 0].numpy()[head], seed=places))
        advance()
    return calibrate(found, level, bounded=bounded)


def _nth(again: int) -> tuple[int, ...]:
    """Return what tells the seed of a further measurement from that of the first, which is scored."""
    return (again,) if again else ()


def input_method(measurement: Measurement) -> Tensor:
    """Return what the method sees, as a picture: |A†y|."""
    return magnitude(measurement.start)


def restore_cases(
    cases: Sequence[Case],
    method: Method,
    acquire: Acquisition,
    *,
    folder: Path,
    record: Record,
    advance: Callable[..., None] = lambda **figures: None,
    load: Load | None = None,
    spread: SpreadMethod | None = None,
    calibration: Calibration | None = None,
    unsupported: bool = False,
) -> Record:
    """Restore volumes and write each as NIfTI on its canonical grid, in its own units.

    Seconds of the method alone go into the record, without those of its spread, which others do not have: where there
    is a spread, of the first `TIMED` volumes, and the others are restored and get their spread at once.

    Parameters
    ----------
    advance : callable
        Called after every volume with figures by name: voxels per second of the method, and those of `load`.
    load : Load, optional
        Of the device that the method computes on.
    spread, calibration
        Half the width of each voxel's interval is written beside the volume.
    unsupported : bool
        Whether to write `unsupported_detail` beside the volume, where there is some.

    Raises
    ------
    MedwvaeError
        If the method answers with values that are not finite.
    """
    for number, case in enumerate(cases):
        measurement = acquire(case).measurement
        figures: dict[str, float] = {}
        maps = {}
        if spread is None or calibration is None or number < TIMED:
            started = time.perf_counter()
            slices = method(measurement)
            seconds = time.perf_counter() - started
            record.seconds_per_volume[case.volume] = round(seconds, 3)
            figures["voxels_per_s"] = slices.numel() / seconds
        if spread is not None and calibration is not None:
            slices, width = spread(measurement, acquire.draws(case))
            maps[paths.uncertainty] = width * calibration.factor
        # Asked before anything is written: then a card rests.
        figures |= {} if load is None else load.figures()
        if not torch.isfinite(slices).all():
            raise MedwvaeError(
                f"{acquire.task}: the method gave values that are not finite for {case.volume}; see its training"
            )
        if unsupported and (detail := unsupported_detail(measurement, slices)) is not None:
            maps[paths.unsupported] = detail
        for path, values in maps.items():
            nifti.write(
                path(folder, case.volume),
                case.prepared.widths_to_volume(values[:, 0].numpy()),
                case.prepared.affine,
            )
        volume = case.prepared.to_volume(slices[:, 0].numpy())
        nifti.write(paths.volume(folder, case.volume), volume, case.prepared.affine)
        advance(**figures)
    return record


def write_record(path: Path, record: Record) -> None:
    """Write the record as JSON; the last file of a restoration."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(vars(record), indent=1, sort_keys=True) + "\n", encoding="utf-8")
