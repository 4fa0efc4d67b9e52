"""From the source to slices: phantom, ingest, split, preprocess."""

from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from medwvae import paths
from medwvae.config import Config
from medwvae.errors import InputError, Refusal
from medwvae.names import PARTS
from medwvae.progress import bar, counter, say
from medwvae.stages.plan import each, source_of


def phantom(config: Config, threads: int) -> None:
    """Write the synthetic cohort."""
    from medwvae.data.phantom.cohort import make_cohort

    p = config.phantom
    with counter("phantom", p.subjects) as advance:
        make_cohort(
            paths.phantom(config.root),
            subjects=p.subjects,
            seed=config.seed,
            shape=p.shape,
            spacing=p.spacing,
            contrasts=p.contrasts,
            lesions=p.lesions,
            bias=p.bias,
            noise=p.noise,
            file_format=p.file_format,
            workers=threads,
            advance=advance,
        )


def ingest(config: Config, threads: int) -> None:
    """Source folder to canonical volumes and manifest."""
    from medwvae.data import ingest as ingestion
    from medwvae.data import manifest

    c, root = config.ingest, config.root
    with bar("ingest") as shown:
        try:
            rows = ingestion.ingest(
                source_of(config).resolve(),  # the table that leads back must not lead through a link of the study's
                paths.canonical(root),
                subjects=c.subjects if config.input else "keep",  # a phantom is no patient
                pattern=c.pattern,
                key_file=paths.private(root) / "key",
                default_modality=c.default_modality,
                on_gap=c.on_gap,
                on_tilt=c.on_tilt,
                demographics=Path(c.demographics) if c.demographics else None,
                state=paths.ingest_state(root),
                workers=threads,
                advance=lambda done, total: shown.update(done / total),
            )
        except ingestion.NothingUsableError as error:
            manifest.write(paths.manifest(root), error.rows)  # the volumes of an earlier run are gone, too
            raise
    manifest.write(paths.manifest(root), rows)
    refused = [row for row in rows if row.status == "refused"]
    kinds = Counter(row.contrast for row in rows if row.status == "ok")
    words = ", ".join(f"{number} {contrast}" for contrast, number in sorted(kinds.items()))
    say(f"ingest: {kinds.total()} volumes ({words}), {len(refused)} refused (see {paths.manifest(root)})")
    for row in refused:
        say(f"  {row.volume}: {row.reason}")


def split(config: Config) -> None:
    """Subjects of the usable volumes to parts."""
    from medwvae.data import splits

    c = config.split
    subjects = sorted({row.subject for row in usable(config)})
    if c.file:
        assigned = splits.read(Path(c.file))
        if missing := [s for s in subjects if s not in assigned]:
            raise InputError(f"{c.file}: {len(missing)} subjects of the manifest have no part, first {missing[0]}")
        assigned = {s: assigned[s] for s in subjects}
        _check_parts(config, assigned.values(), f"{c.file}: no usable subject of the study")
    else:
        assigned = splits.split(subjects, fractions=(c.train, c.val, c.test), seed=config.seed)
    splits.write(paths.splits(config.root), assigned)


def preprocess(config: Config, threads: int) -> None:
    """Canonical volumes to slices in network units."""
    from medwvae.data import loaders, splits

    root, assigned = config.root, splits.read(paths.splits(config.root))
    rows = usable(config)
    _say_unknown(rows)
    jobs = partial(_prepare_one, root, config.preprocess.plane, config.preprocess.percentile)
    work = [(row.volume, row.file, row.modality or config.ingest.default_modality) for row in rows]
    failed: set[str] = set()
    if threads > 1:  # before the workers fork: the import takes each of them as long as several volumes
        import monai.transforms.spatial.dictionary  # noqa: F401
    with counter("preprocess", len(work)) as advance:
        for name, reason in each(jobs, work, threads):
            advance()
            if reason:
                say(f"preprocess: {name} left out: {reason}")
                failed.add(name)
    index = [(r.volume, r.subject, r.contrast, assigned[r.subject]) for r in rows if r.volume not in failed]
    _check_parts(config, [part for *_, part in index], "no volume that could be preprocessed")
    loaders.write_index(paths.prepared_index(root), index)


def usable(config: Config) -> list[Any]:
    """Rows of the manifest that are usable and of a wanted contrast."""
    from medwvae.data import manifest

    wanted = config.preprocess.contrasts
    rows = [row for row in manifest.read(paths.manifest(config.root)) if row.status == "ok"]
    rows = [row for row in rows if not wanted or row.contrast in wanted]
    if not rows:
        raise InputError(f"no usable volume of contrast {', '.join(wanted)}; see {paths.manifest(config.root)}")
    return rows


def _say_unknown(rows: list[Any]) -> None:
    """Say how many volumes of unknown contrast (diffusion, BOLD, unnamed series) go the way of the others."""
    counts = Counter(row.contrast for row in rows)
    if unknown := counts.pop("unknown", 0):
        known = ", ".join(sorted(counts)) or "t1w"
        say(
            f"preprocess: {unknown} of {len(rows)} volumes are of unknown contrast (such as diffusion, BOLD, or a "
            "series whose name and timing do not tell) and are used like the others; to leave them out, name the "
            f"contrasts to use: preprocess.contrasts=[{known}]"
        )


def _check_parts(config: Config, present: Iterable[str], what: str) -> None:
    """Raise InputError where a part is empty: hours of training later is too late to learn it."""
    needed = PARTS if config.networks.from_run is None else PARTS[1:]
    if missing := sorted(set(needed) - set(present), key=PARTS.index):
        raise InputError(f"{what} is in the part {' or '.join(missing)}; add subjects or change `split`")


def _prepare_one(root: Path, plane: Any, percentile: float, item: tuple[str, str, Any]) -> tuple[str, str]:
    from medwvae.data.transforms import prepare

    name, file, modality = item
    try:
        prepared = prepare(root / file, modality=modality, plane=plane, percentile=percentile)
    except (InputError, Refusal) as error:
        return name, str(error)
    prepared.save(paths.prepared(root) / f"{name}.npz")
    return name, ""
