"""Restored volumes leave the study: as derived DICOM series where their source is DICOM, as NIfTI on its grid."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medwvae import paths, provenance
from medwvae.config import Config
from medwvae.errors import ConfigError, InputError, Refusal
from medwvae.progress import counter, say
from medwvae.stages.plan import source_of

if TYPE_CHECKING:
    from medwvae.data.dicom_export_header import Derivation, Hidden
    from medwvae.data.export import Exported


def export(
    config: Config,
    out: Path,
    *,
    task: str | None = None,
    method: str | None = None,
    volume: Path | None = None,
    source: Path | None = None,
    uncertainty: Path | None = None,
    deidentified: bool = False,
    name: str | None = None,
) -> None:
    """Export one volume, or without one every test volume that the study has restored by a method of a task.

    Raises
    ------
    ConfigError
        If the arguments do not say what to export, or under which name.
    InputError
        If there is nothing to export, or `out` holds something already.
    Refusal
        If a single volume cannot be exported.
    """
    task = config.problem(task).id if task else None
    place, images = out.resolve(), source_of(config).resolve()
    if place.is_relative_to(images) and not place.is_relative_to(config.root.resolve()):
        raise InputError(
            f"{out} lies in the folder that images are read from; results there would be read as new images"
        )
    if name is not None and not (volume and deidentified):
        raise ConfigError("--name belongs to one --volume with --deidentified; a study gives pseudonyms of its own")
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise ConfigError("--name takes up to 64 letters, digits, dots, dashes and underscores, without spaces")
    if volume:
        one = _one(config, volume, source, out, task, method, uncertainty, deidentified, name)
        say(f"export: {_words(one)} in {out}")
    elif not (task and method):
        raise ConfigError("name what to export: --task and --method of a study, or one --volume")
    elif source or uncertainty:
        raise ConfigError("--source and --uncertainty belong to one --volume; a study knows its own")
    else:
        _all(config, out, task, method, deidentified)


def _one(
    config: Config,
    volume: Path,
    source: Path | None,
    out: Path,
    task: str | None,
    method: str | None,
    uncertainty: Path | None,
    deidentified: bool,
    pseudonym: str | None,
) -> "Exported":
    from medwvae.data.export import export_volume

    name = volume.name.removesuffix(".gz").removesuffix(".nii")
    rows = {row.volume: row for row in _rows(config)} if paths.manifest(config.root).is_file() else {}
    sidecar = _sidecar(config, rows[name]) if name in rows else {}
    if not source:
        _check_unmended(sidecar)
        source = _places(config).get(name)
    if source is None:
        raise InputError(f"{volume}: the study does not know where this volume came from; name it with --source")
    if not source.exists():
        raise InputError("the source images are not where they should be; name their folder with --source")
    subject = rows[name].subject if name in rows else ""
    if deidentified and not (subject or pseudonym):
        raise ConfigError(
            "no study knows whose volume this is: name a pseudonym with --name, another one for every patient, or an "
            "archive takes all of them for one"
        )
    return export_volume(
        volume,
        source,
        out,
        _derivation(config, task, method),
        uncertainty=uncertainty,
        hidden=_hidden(config, subject, pseudonym) if deidentified else None,
        around=source_of(config).resolve(),
        number=sidecar.get("VolumeOfSeries"),
    )


def _all(config: Config, out: Path, task: str, method: str, deidentified: bool) -> None:
    from medwvae.data.dicom_export_source import Scanned
    from medwvae.data.export import export_volume

    folder = paths.restored(config.root, task, method)
    rows = [row for row in _rows(config) if paths.volume(folder, row.volume).is_file()]
    if not rows:
        raise InputError(f"{folder}: no restored volumes; run `medwvae restore --task {task} --method {method}` first")
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out} is not empty; name another folder or move its content away")
    places, derivation = _places(config), _derivation(config, task, method)
    remarks, exported = [], 0
    scanned: Scanned = {}  # a flat archive is read once, not once a volume
    with counter(f"export {task}/{method}", len(rows)) as advance:
        for row in rows:
            uncertain = paths.uncertainty(folder, row.volume)
            sidecar = _sidecar(config, row)
            hidden = _hidden(config, row.subject) if deidentified else None
            folder_name = row.volume.replace(row.subject, hidden.name, 1) if hidden else row.volume
            try:
                _check_unmended(sidecar)
                if row.volume not in places:
                    raise Refusal("the private table does not say where it came from; run `medwvae ingest` again")
                one = export_volume(
                    paths.volume(folder, row.volume),
                    places[row.volume],
                    out / folder_name,
                    derivation,
                    uncertainty=uncertain if uncertain.is_file() else None,
                    hidden=hidden,
                    around=source_of(config).resolve(),
                    number=sidecar.get("VolumeOfSeries"),
                    scanned=scanned,
                )
            except Refusal as refusal:
                remarks.append(f"  {folder_name}: left out: {refusal}")
            else:
                exported += 1
                if one.without_dicom:
                    remarks.append(f"  {folder_name}: NIfTI only: {one.without_dicom}")
            advance()
    say(f"export: {exported} of {len(rows)} volumes in {out}")
    for remark in remarks:
        say(remark)
    if not exported:
        raise InputError("no volume could be exported; the reasons are above")


def _words(one: "Exported") -> str:
    if one.without_dicom:
        return f"NIfTI only ({one.without_dicom})"
    return f"{one.slices} DICOM images, rounded by at most {one.rounding:.3g}, and NIfTI"


def _rows(config: Config) -> list[Any]:
    from medwvae.data import manifest

    return [row for row in manifest.read(paths.manifest(config.root)) if row.status == "ok"]


def _places(config: Config) -> dict[str, Path]:
    from medwvae.data.dicom_export_source import source_files

    return source_files(paths.sources(config.root))


def _sidecar(config: Config, row: Any) -> dict[str, Any]:
    """Return what ingestion noted of a volume: which one of its series it is, and whether it was mended."""
    path = config.root / f"{row.file.removesuffix('.nii.gz')}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _check_unmended(sidecar: dict[str, Any]) -> None:
    """Refuse a volume whose slices are not those of its source: a derived series would say that they are."""
    done = {"SlicesInterpolated": "missing slices interpolated", "TiltCorrection": "the gantry tilt taken out"}
    if words := " and ".join(what for key, what in done.items() if key in sidecar):
        raise Refusal(
            f"ingestion mended this volume ({words}), so its slices are not those of the source and cannot go back as "
            "DICOM; use its NIfTI in the folder `restored` of the study, or a series that the scanner made whole"
        )


def _derivation(config: Config, task: str | None, method: str | None) -> "Derivation":
    """Say what made the volumes, with the training's length where the study knows it."""
    from medwvae.data.dicom_export_header import Derivation

    details: dict[str, Any] = {}
    if task and method and (record := paths.record(config.root, task, method)).is_file():
        known = json.loads(record.read_text(encoding="utf-8"))["details"]
        details = {key: known[key] for key in ("steps", "parameters", "params") if key in known}
    return Derivation(task or "", method or "", details | {"code": provenance.revision()})


def _hidden(config: Config, subject: str, name: str | None = None) -> "Hidden":
    """Return the pseudonym under which a volume leaves; a study's key makes its exports belong together."""
    import secrets

    from medwvae.data.dicom_export_header import Hidden
    from medwvae.data.subjects import load_key, pseudonyms

    file = paths.private(config.root) / "key"
    key = load_key(file) if file.is_file() else secrets.token_bytes(32)
    if subject and config.ingest.subjects == "keep":  # the label is the source's own name
        subject = pseudonyms([subject], key)[subject]
    return Hidden(name or subject, key)
