"""A series to the volumes it holds: what must not be mixed is kept apart, and nothing is guessed."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Final

import numpy as np

from medwvae.data.dicom.pixels import stored_digests
from medwvae.data.dicom.records import WORDS, File, Frame, Part, Series, Tells
from medwvae.errors import Refusal

MIN_SLICES: Final = 3
"""Two slices have one gap: nothing would show that a third is missing between them."""
_SAME: Final = 1e-4  # direction cosines and pixel spacings (mm) of one series agree to this
_TOLERANCE: Final = {"echo_time": 0.01, "inversion_time": 0.01}  # relative; scanners round them from slice to slice


def split(series: Series) -> list[Part]:
    """Return the volumes of a series: one per echo, time point, image type, b-value, direction and mosaic.

    Where none of these tells repeated slices apart, the order of their acquisition numbers or trigger times does, if
    every place was imaged equally often.

    Raises
    ------
    Refusal
        If the series as a whole cannot be used: it holds no images, or those of several patients, sizes, orientations
        or spacings, or no volume. The reason names no identifier.
    """
    frames = _without_copies(series.frames)
    for frame in frames:
        if frame.file.refusal:
            raise Refusal(frame.file.refusal)
    _check_one(frames, lambda frame: frame.file.owner, "patients or examinations")
    _check_one(frames, lambda frame: frame.file.shape, "image sizes")
    _check_one(frames, lambda frame: frame.file.grey, "grey scales (bright and dark exchanged)")
    _check_plane(frames)
    groups = [part for group in _by_tells(frames) for part in _by_order(group)]
    sizes = Counter(map(len, groups))
    if max(sizes) < MIN_SLICES:
        _refuse_few(frames, len(groups), max(sizes))
    return [Part(tuple(group), number, len(groups), max(sizes)) for number, group in enumerate(groups, start=1)]


def _refuse_few(frames: Sequence[Frame], parts: int, most: int) -> None:
    if parts > 1:
        raise Refusal(
            f"the series holds {_differences(frames)}, so {parts} volumes, none of more than {most} slice(s); "
            f"a volume needs {MIN_SLICES}; export all slices"
        )
    raise Refusal(f"the series has {most} slice(s), a volume needs {MIN_SLICES}; export all slices")


def _differences(frames: Iterable[Frame]) -> str:
    """Return what differs between the volumes, in words."""
    columns = zip(*(frame.tells for frame in frames), strict=True)
    counts = {name: len(set(values)) for name, values in zip(Tells._fields, columns, strict=True)}
    return " and ".join(f"{n} {WORDS[name]}" for name, n in counts.items() if n > 1) or "several acquisitions"


def _without_copies(frames: Sequence[Frame]) -> list[Frame]:
    """Drop the files that repeat another one: the same instance, place and stored values (exports hold images twice).

    The values are decoded for that, so that a copy in another encoding counts as one, too. Files that share the
    instance only, as some anonymisers make them, all stay.
    """
    members: dict[File, list[Frame]] = defaultdict(list)
    for frame in frames:
        members[frame.file].append(frame)
    copies = Counter(file.instance for file in members)
    several = [file for file in members if copies[file.instance] > 1]
    contents = dict(zip(several, stored_digests(several), strict=True))
    kept: dict[Hashable, list[Frame]] = {}
    for file, own in members.items():
        content = contents.get(file, "")
        kept.setdefault((file.instance, content, *((f.position, f.tells, f.ordinals) for f in own)), own)
    return [frame for own in kept.values() for frame in own]


def _check_one(frames: Iterable[Frame], key: Callable[[Frame], Hashable], what: str) -> None:
    if (count := len({key(frame) for frame in frames})) > 1:
        raise Refusal(f"the series mixes {count} {what}; export each as its own series")


def _check_plane(frames: Sequence[Frame]) -> None:
    """Refuse images that do not say where they lie, or lie in different planes."""
    for tag, words, values, count in (
        ("ImagePositionPatient", "position", [frame.position for frame in frames], 3),
        ("ImageOrientationPatient", "orientation", [frame.cosines for frame in frames], 6),
        ("PixelSpacing", "pixel spacing", [frame.spacing for frame in frames], 2),
    ):
        if any(len(value) != count for value in values):
            raise Refusal(
                f"a slice does not say its {words} (DICOM {tag}), so its place in the patient is not known; "
                "export the original series, not a secondary capture"
            )
    cosines, spacing = (
        np.array(sorted(set(values))) for values in zip(*((f.cosines, f.spacing) for f in frames), strict=True)
    )
    if np.ptp(cosines, axis=0).max() > _SAME:
        raise Refusal(
            "the slices do not share one orientation (a localiser or several stacks); export each stack alone"
        )
    if np.ptp(spacing, axis=0).max() > _SAME:
        raise Refusal("the slices do not share one pixel spacing; export each stack as its own series")
    if spacing.min() <= 0:
        raise Refusal("the pixel spacing is not positive; export the series again from the scanner or PACS")
    axes = cosines[0].reshape(2, 3)
    if np.abs(axes @ axes.T - np.eye(2)).max() > 1e-3:
        raise Refusal("the image orientation is not two unit vectors at a right angle; export the series again")


def _by_tells(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Return the frames grouped by everything that tells volumes apart, in the order of those values."""
    steps = {name: _steps([getattr(f.tells, name) for f in frames], share) for name, share in _TOLERANCE.items()}
    groups: dict[tuple[Hashable, ...], list[Frame]] = defaultdict(list)
    for frame in frames:
        tells = frame.tells._asdict()
        tells |= {name: step.get(tells[name]) for name, step in steps.items()}
        groups[tuple(tells.values())].append(frame)
    if frames[0].file.tiles:  # mosaics follow one another in time; their instance says nothing about it
        return sorted(groups.values(), key=lambda group: (group[0].ordinals[0] or 0.0, group[0].file.path))
    return [groups[key] for key in sorted(groups, key=lambda key: [(v is not None, v) for v in key])]


def _steps(values: Iterable[float | None], share: float) -> dict[float | None, float]:
    """Return, for every value, the smallest of its cluster: neighbours closer than `share` of the larger are one."""
    found: dict[float | None, float] = {}
    last = first = None
    for value in sorted({value for value in values if value is not None}):
        if last is None or first is None or value - last > share * abs(value):
            first = value
        found[value], last = first, value
    return found


def _by_order(frames: list[Frame]) -> list[list[Frame]]:
    """Return repeated slices as volumes by acquisition number or trigger time, if all places repeat equally often."""
    axes = np.reshape(frames[0].cosines, (2, 3))
    normal = np.cross(axes[0], axes[1])
    places = np.array([frame.position for frame in frames]) @ normal
    at: dict[int, list[Frame]] = defaultdict(list)
    order = np.argsort(places, kind="stable")
    rank = np.concatenate([[0], np.cumsum(np.diff(places[order]) > 1e-3)])
    for place, k in zip(rank, order, strict=True):
        at[int(place)].append(frames[k])
    repeats = {len(group) for group in at.values()}
    if len(repeats) != 1 or repeats == {1} or len(at) < MIN_SLICES:
        return [frames]
    for n in range(2):
        values = {place: [frame.ordinals[n] for frame in group] for place, group in at.items()}
        if all(None not in found and len(set(found)) == len(found) for found in values.values()):
            ranked = [sorted(group, key=lambda frame: frame.ordinals[n] or 0.0) for group in at.values()]
            return [list(volume) for volume in zip(*ranked, strict=True)]
    return [frames]
