"""The frames of one volume to an ordered stack and its affine, or a refusal. The geometry is never guessed."""

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from medwvae.data.dicom.records import Frame, Part, Stack
from medwvae.data.dicom.stacks import MIN_SLICES
from medwvae.errors import Refusal
from medwvae.geometry import LPS_TO_RAS, is_plausible, spacing_of

GAP_TOLERANCE: Final = 0.02
"""The largest deviation of a gap between slices from the median gap, as a fraction of it."""
TILT_TOLERANCE: Final = float(np.sin(np.deg2rad(0.5)))
"""Sine of the largest angle between the direction of the stack and the slice normal."""

OnGap = Literal["refuse", "resample"]
OnTilt = Literal["refuse", "shear"]
Vector = NDArray[np.float64]


def check(part: Part, *, on_gap: OnGap = "refuse", on_tilt: OnTilt = "refuse") -> Stack:
    """Return the slices in their order along the normal and the affine of the volume, from the headers alone.

    The spacing between slices comes from their positions; slice thickness is never read.

    Parameters
    ----------
    part
        One volume of a series, as `split` returns it.
    on_gap
        `resample` puts missing or unevenly spaced slices on an even grid, later, by linear interpolation between the
        neighbours; how many slices no measurement stands behind is noted.
    on_tilt
        `shear` moves the slices of a tilted gantry back, later, by linear interpolation within each slice.

    Raises
    ------
    Refusal
        If the slices are no regular stack. The reason names no identifier.
    """
    frames = part.frames
    if len(frames) < MIN_SLICES:
        raise Refusal(f"the volume has {len(frames)} slice(s), a volume needs {MIN_SLICES}; export all slices")
    along_row, along_column = np.reshape(frames[0].cosines, (2, 3))
    normal = np.cross(along_row, along_column)
    normal /= np.linalg.norm(normal)
    position = np.array([frame.position for frame in frames])
    order = np.argsort(position @ normal, kind="stable")
    position = position[order]
    along = position @ normal
    notes: dict[str, float | str] = {}
    depth, places = len(frames), None
    if problem := _gap_problem(along):
        if on_gap == "refuse" or np.diff(along).min() < 1e-3:
            raise Refusal(problem)
        depth, places, invented = _even_grid(along)
        notes |= {"SlicesAcquired": len(frames), "SlicesInterpolated": invented, "SliceInterpolation": "linear"}
    if depth < part.most:
        raise Refusal(
            f"the volume has {depth} slices, others of its series have {part.most}: the acquisition was stopped or the "
            "export is not complete; export all slices"
        )
    lean, drift = _lean(position, along, normal)
    step = (position[-1] - position[0]) / (depth - 1)
    length = float(np.linalg.norm(step))
    if drift > 2 * GAP_TOLERANCE * length:
        raise Refusal(f"the slices do not lie on one straight line (one is off by {drift:.2f} mm); export again")
    spacing = frames[0].spacing
    shift = (0.0, 0.0)
    if lean > TILT_TOLERANCE:
        degrees = float(np.rad2deg(np.arcsin(min(lean, 1.0))))
        if on_tilt == "refuse":
            raise Refusal(
                f"the stack leans by {degrees:.1f} degrees against its slices (gantry tilt); "
                "export a reconstruction at right angles to the table"
            )
        shift = float(step @ along_row) / spacing[1], float(step @ along_column) / spacing[0]
        step = (step @ normal) * normal
        notes |= {"GantryTiltDegrees": round(degrees, 3), "TiltCorrection": "shear, linear interpolation in plane"}
    lps = np.eye(4)
    lps[:3, 0] = along_row * spacing[1]  # PixelSpacing is (between rows, between columns)
    lps[:3, 1] = along_column * spacing[0]
    lps[:3, 2] = step
    lps[:3, 3] = position[0]
    if not is_plausible(size := spacing_of(lps)):
        words = " x ".join(f"{mm:g}" for mm in size)
        raise Refusal(f"the voxels would be {words} mm: the header's spacing or positions are wrong; export it again")
    if part.count > 1:
        notes |= {"VolumeOfSeries": part.number, "VolumesInSeries": part.count}
    return Stack(tuple(frames[k] for k in order), LPS_TO_RAS @ lps, depth, places, shift, notes | _timing(frames))


def _timing(frames: Sequence[Frame]) -> dict[str, float | str]:
    """Return what is the volume's own where a series holds several, by BIDS key, times in seconds."""
    tells, notes = frames[0].tells, dict[str, float | str]()
    for key, time in (("EchoTime", tells.echo_time), ("InversionTime", tells.inversion_time)):
        if time:
            notes[key] = round(time / 1000, 9)
    if tells.b_value is not None:
        notes["DiffusionBValue"] = tells.b_value
    return notes


def _gap_problem(along: Vector) -> str:
    """Return why slices lie at the same place, unevenly, or with a hole; `along` in mm along the normal, sorted."""
    gaps = np.diff(along)
    if (same := int((gaps < 1e-3).sum())) > 0:
        return (
            f"{same} of {len(along)} slices lie where another one lies (first at {along[np.argmin(gaps)]:.2f} mm): "
            "the series holds several volumes or repeated slices; export each volume as its own series"
        )
    median = float(np.median(gaps))
    worst = int(np.argmax(np.abs(gaps - median)))
    if abs(gaps[worst] - median) <= GAP_TOLERANCE * median:
        return ""
    between = f"between {along[worst]:.2f} and {along[worst + 1]:.2f} mm along the stack"
    multiple = gaps[worst] / median
    if round(multiple) >= 2 and abs(multiple - round(multiple)) <= 0.1:
        return f"{round(multiple) - 1} slice(s) missing {between} (of {len(along)}); export all slices"
    return (
        f"the slices are not evenly spaced: the gap {between} is {gaps[worst]:.2f} mm, the others {median:.2f} mm "
        f"(tolerance {GAP_TOLERANCE:.0%}); export a reconstruction with even spacing"
    )


def _even_grid(along: Vector) -> tuple[int, tuple[float, ...], int]:
    """Return how many slices the even grid has, where on it the slices lie, and how many of it have none nearby.

    The grid runs from the first slice to the last in steps as close to the median gap as fit.
    """
    extent = float(along[-1] - along[0])
    median = float(np.median(np.diff(along)))
    depth = round(extent / median) + 1
    if depth > 2 * len(along):
        raise Refusal(
            f"more slices are missing ({depth - len(along)}) than there are ({len(along)}); export all slices"
        )
    depth = max(depth, MIN_SLICES)
    places = (along - along[0]) / extent * (depth - 1)
    near = np.abs(places - np.rint(places)) <= GAP_TOLERANCE
    places = np.where(near, np.rint(places), places)
    if np.diff(places).min() <= 0:
        raise Refusal("two slices lie almost at the same place; export a reconstruction with even spacing")
    invented = depth - len(set(places[near].tolist()))
    return depth, tuple(float(place) for place in places), invented


def _lean(position: NDArray[np.float64], along: Vector, normal: Vector) -> tuple[float, float]:
    """Return the sine of the angle of the stack against the normal, and how far a slice is off its line, in mm."""
    whole = position[-1] - position[0]
    lean = float(np.linalg.norm(whole - (whole @ normal) * normal) / np.linalg.norm(whole))
    expected = position[0] + np.outer((along - along[0]) / (along[-1] - along[0]), whole)
    return lean, float(np.linalg.norm(position - expected, axis=1).max())
