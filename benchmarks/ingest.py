"""Ingestion beside dcm2niix and dicom2nifti: the same series, one process each, turn by turn in one run.

Two kinds of result: `.nii.gz`, deflated at level 1 by all three (ours is the whole `ingest`: digests of every source
and result, sidecar, manifest row), and plain `.nii`, so that the compression does not decide. dicom2nifti and ours are
timed within this process, dcm2niix with its start of a few milliseconds. dicom2nifti runs as it does by default, which
turns the volume to its canonical axes as ours does, and "as stored", without that (it writes the file twice for it). A
ratio is the other's time over ours, the median over the turns; a claim is its geometric mean over the series. The
series are the phantom's, coded by GDCM and OpenJPEG; `--input` adds every folder of DICOM below it.
"""

import logging
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from _table import arguments, publish
from pydicom.uid import JPEG2000Lossless, RLELossless

from medwvae.data import dicom, nifti
from medwvae.data.ingest import ingest
from medwvae.data.phantom.cohort import make_cohort
from medwvae.errors import InputError, Refusal
from medwvae.geometry import to_ras
from medwvae.names import Contrast

DCM2NIIX = shutil.which("dcm2niix", path=Path(sys.executable).parent) or shutil.which("dcm2niix")
SERIES: dict[str, tuple[Contrast, tuple[int, int, int], tuple[float, float, float]]] = {
    "MR": ("t1w", (256, 256, 150), (0.9, 0.9, 1.1)),
    "CT": ("ct", (512, 512, 100), (0.45, 0.45, 1.6)),
}
CODINGS = {"plain": ("", ""), "RLE": (RLELossless, "gdcm"), "JPEG 2000": (JPEG2000Lossless, "pylibjpeg")}


def archive(folder: Path, quick: bool) -> Iterator[tuple[str, Path]]:
    """Write the synthetic series and yield their names and folders."""
    for name, (contrast, (columns, rows, slices), spacing) in SERIES.items():
        shape = (columns, rows, slices // 6 if quick else slices)
        spacing = (*spacing[:2], spacing[2] * slices / shape[2])
        (source,) = make_cohort(
            folder / name, subjects=1, seed=1, shape=shape, spacing=spacing, contrasts=(contrast,), noise=0.02
        )
        for coding, (syntax, plugin) in CODINGS.items():
            if quick and coding == "RLE":
                continue
            target = folder / f"{name} {coding}"
            target.mkdir()
            for path in source.iterdir():
                dataset = pydicom.dcmread(path)
                if syntax:
                    dataset.compress(syntax, encoding_plugin=plugin, generate_instance_uid=False)
                dataset.save_as(target / path.name)
            yield f"{name} {'x'.join(map(str, shape))} {coding}", target


def folders_below(source: Path) -> Iterator[tuple[str, Path]]:
    """Yield every folder that holds DICOM files itself."""
    for folder in sorted({path.parent for path in source.rglob("*") if path.is_file() and dicom.is_dicom(path)}):
        yield folder.relative_to(source).as_posix() or folder.name, folder


def ours(source: Path, out: Path, compressed: bool) -> None:
    if compressed:
        ingest(source, out / "volumes", key_file=out / "private" / "key")
        return
    series, _ = dicom.scan([path for path in source.iterdir() if dicom.is_dicom(path)])
    for k, part in enumerate(part for one in series for part in dicom.split(one)):
        loaded = dicom.load(dicom.check(part))
        volume, affine = to_ras(loaded.voxels, loaded.affine)
        nifti.write(out / f"{k}.nii", np.asarray(volume, np.float32), affine)


def dcm2niix(source: Path, out: Path, compressed: bool) -> None:
    out.mkdir()
    options = ("-z", "i", "-1") if compressed else ("-z", "n")
    subprocess.run([str(DCM2NIIX), *options, "-o", str(out), str(source)], check=True, capture_output=True)


def dicom2nifti(source: Path, out: Path, compressed: bool, *, reorient: bool = True) -> None:
    from dicom2nifti import dicom_series_to_nifti

    out.mkdir()
    dicom_series_to_nifti(str(source), str(out / ("v.nii.gz" if compressed else "v.nii")), reorient_nifti=reorient)


Converter = Callable[[Path, Path, bool], None]
OTHERS: dict[str, Converter] = {
    "dcm2niix": dcm2niix,
    "dicom2nifti": dicom2nifti,
    "as stored": partial(dicom2nifti, reorient=False),
}
CLAIMS = {"dcm2niix": "dcm2niix", "dicom2nifti": "dicom2nifti", "as stored": "dicom2nifti_as_stored"}


def seconds_of(convert: Converter, source: Path, compressed: bool) -> float:
    """Return how long a conversion takes; infinity where the converter does not make an image of the series."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        started = time.perf_counter()
        try:
            convert(source, Path(folder) / "out", compressed)
        except (InputError, Refusal):
            return float("nan")
        except Exception:
            if convert is ours:
                raise
            return float("nan")
        seconds = time.perf_counter() - started
        made = sum(path.stat().st_size for path in Path(folder).rglob("*.nii*"))
        return seconds if made > 1000 else float("nan")


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--input", type=Path, help="folder of DICOM series to be timed, too")
    parser.add_argument(
        "--turns", type=int, default=0, help="how often each converts each series (5, or 2 for --quick)"
    )
    options = parser.parse_args()
    turns = options.turns or (2 if options.quick else 5)
    logging.disable(logging.ERROR)
    if DCM2NIIX is None:
        sys.exit("dcm2niix is not installed (pip install -e '.[dev,bench]')")
    rows: list[dict[str, Any]] = []
    ratios: dict[tuple[str, bool], list[float]] = {(name, level): [] for name in OTHERS for level in (True, False)}
    with tempfile.TemporaryDirectory() as place:
        cases = [*archive(Path(place), options.quick), *(folders_below(options.input) if options.input else ())]
        for case, source in cases:
            files = [path for path in source.iterdir() if path.is_file()]
            size = sum(path.stat().st_size for path in files) / 1e6
            for compressed in (True, False):
                times: dict[str, list[float]] = {name: [] for name in ("ours", *OTHERS)}
                for _ in range(turns):
                    for name, convert in {"ours": ours, **OTHERS}.items():
                        times[name].append(seconds_of(convert, source, compressed))
                row = {"series": case, "files": len(files), "MB": size, "result": "gzip 1" if compressed else "plain"}
                row |= {f"{name} s": statistics.median(seconds) for name, seconds in times.items()}
                for name in OTHERS:
                    pairs = zip(times[name], times["ours"], strict=True)
                    row[f"x {name}"] = ratio = statistics.median(other / own for other, own in pairs)
                    if np.isfinite(ratio):
                        ratios[name, compressed].append(ratio)
                rows.append(row)
    claims = {
        f"ratio_to_{claim}{'' if compressed else '_uncompressed'}": float(
            np.exp(np.mean(np.log(ratios[name, compressed])))
        )
        for compressed in (True, False)
        for name, claim in CLAIMS.items()
    }
    publish(rows, claims, options.json)


if __name__ == "__main__":
    main()
