"""Enhanced MR and CT: every frame of the file from its functional groups (DICOM PS3.3 C.7.6.16)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pydicom

from medwvae.data.dicom.records import File, Frame, Tells
from medwvae.data.dicom.scale import scale_of
from medwvae.data.dicom.values import first, items, numbers, text, texts

ENHANCED: Final = frozenset(
    (
        "1.2.840.10008.5.1.4.1.1.2.1",  # Enhanced CT
        "1.2.840.10008.5.1.4.1.1.2.2",  # Legacy Converted Enhanced CT
        "1.2.840.10008.5.1.4.1.1.4.1",  # Enhanced MR
        "1.2.840.10008.5.1.4.1.1.4.4",  # Legacy Converted Enhanced MR
    )
)
_SHARED, _PER_FRAME = 0x52009229, 0x52009230
_POSITION, _ORIENTATION, _MEASURES, _TRANSFORM = 0x00209113, 0x00209116, 0x00289110, 0x00289145
_CONTENT, _ECHO, _DIFFUSION, _MODIFIER, _TIMING = 0x00209111, 0x00189114, 0x00189117, 0x00189115, 0x00189112
_FRAME_TYPES: Final = (0x00189226, 0x00189329)  # MR, CT
_CARDIAC: Final = 0x00189118


def is_enhanced(dataset: pydicom.Dataset) -> bool:
    """Return whether the file is an enhanced object, whose frames say of themselves where they lie."""
    return text(dataset, 0x00080016) in ENHANCED


def frame_types(dataset: pydicom.Dataset) -> list[str]:
    """Return the frame type that all frames share, if they do."""
    groups = items(dataset, _SHARED)
    return [
        value
        for tag in _FRAME_TYPES
        for group in groups
        for item in items(group, tag)
        for value in texts(item, 0x00089007)
    ]


def timing_of(dataset: pydicom.Dataset) -> dict[str, float]:
    """Return repetition, echo and inversion time of the first frame, in ms, by their classic keywords."""
    if not is_enhanced(dataset):
        return {}
    frame, shared = items(dataset, _PER_FRAME)[:1], items(dataset, _SHARED)[:1]
    wanted = {
        "RepetitionTime": (_TIMING, 0x00180080),
        "EchoTime": (_ECHO, 0x00189082),
        "InversionTime": (_MODIFIER, 0x00189079),
    }
    found = {keyword: _value(frame, shared, *tags) for keyword, tags in wanted.items()}
    return {keyword: value for keyword, value in found.items() if value is not None}


def frames_of(file: File, dataset: pydicom.Dataset, same: Callable[[Any], Any]) -> list[Frame]:
    """Return one frame per item of the per-frame groups; `same` returns the one copy of equal values."""
    per_frame, shared = items(dataset, _PER_FRAME), items(dataset, _SHARED)[:1]
    if len(per_frame) != file.frames:
        words = f"the file promises {file.frames} frames and describes {len(per_frame)}; export the series again"
        return [Frame(replace(file, refusal=words), 0, (), (), ())]
    acquisition = first(dataset, 0x00200012)
    frames = []
    for index, group in enumerate(per_frame):
        here = [group]
        transform = _item(here, shared, _TRANSFORM)
        nested = items(group, 0x2005140F)  # where Philips keeps the classic header of a frame
        scale = scale_of(transform, nested[0] if nested else group, file.modality)
        if scale.refusal:
            return [Frame(replace(file, refusal=scale.refusal), 0, (), (), ())]
        number = _value(here, shared, _CONTENT, 0x00209156)
        frames.append(
            Frame(
                file=file,
                index=index,
                position=numbers(_item(here, shared, _POSITION), 0x00200032),
                cosines=same(numbers(_item(here, shared, _ORIENTATION), 0x00200037)),
                spacing=same(numbers(_item(here, shared, _MEASURES), 0x00280030)),
                slope=scale.slope,
                intercept=scale.intercept,
                tells=same(_tells(here, shared)),
                ordinals=(acquisition if number is None else number, _value(here, shared, _CARDIAC, 0x00209153)),
            )
        )
    return frames


def _tells(frame: list[pydicom.Dataset], shared: list[pydicom.Dataset]) -> Tells:
    kinds: list[str] = []
    for tag in _FRAME_TYPES:
        item = _item(frame, shared, tag)
        kinds += [value.upper() for value in (*texts(item, 0x00089007), *texts(item, 0x00089208))]
    directions = items(_item(frame, shared, _DIFFUSION), 0x00189076)
    direction = numbers(directions[0], 0x00189089) if directions else ()
    return Tells(
        time=_value(frame, shared, _CONTENT, 0x00209128),
        echo_time=_value(frame, shared, _ECHO, 0x00189082),
        inversion_time=_value(frame, shared, _MODIFIER, 0x00189079),
        b_value=_value(frame, shared, _DIFFUSION, 0x00189087),
        direction=tuple(round(value, 3) + 0.0 for value in direction),
        kind=tuple(kinds),
    )


def _item(frame: list[pydicom.Dataset], shared: list[pydicom.Dataset], group: int) -> pydicom.Dataset:
    """Return the first item of a functional group, of the frame itself or of all, empty if there is none."""
    return next((item for holder in (*frame, *shared) for item in items(holder, group)[:1]), pydicom.Dataset())


def _value(frame: list[pydicom.Dataset], shared: list[pydicom.Dataset], group: int, tag: int) -> float | None:
    return first(_item(frame, shared, group), tag)
