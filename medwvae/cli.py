"""The command line: one subcommand per rule. Nothing heavy is imported before a subcommand needs it."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from medwvae.errors import MedwvaeError, nameless_traceback, os_error, storage_words

app = typer.Typer(
    name="medwvae",
    help="Wavelet-VAEs for restoring MRI and CT: DICOM in, report out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Files = Annotated[
    list[Path] | None, typer.Option("--config", "-c", help="Overlay on the defaults; repeatable, later ones win.")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="Override one field, e.g. train.batch=8.")
]
Threads = Annotated[int, typer.Option("--threads", "-t", min=1, help="CPU threads or worker processes.")]
TaskName = Annotated[str, typer.Option("--task", help="autoencode, superres, denoise or recon.")]

Log = Annotated[Path | None, typer.Option("--log", help="Also write plain progress lines to this file.")]


def _load(files: list[Path] | None, overrides: list[str] | None) -> Any:
    from medwvae.config_io import load
    from medwvae.progress import hide

    config = load(files or (), overrides or ())
    for label, path in config.own_paths.items():
        hide(path, label)
    return config


@app.callback()
def common(log: Log = None) -> None:
    """Wavelet-VAEs for restoring MRI and CT: DICOM in, report out."""
    if log is not None:
        from medwvae.progress import log_to

        log_to(log)


@app.command()
def config(
    files: Files = None,
    overrides: Overrides = None,
    write_defaults: Annotated[
        Path | None, typer.Option(help="Write default.yaml and schema.json into this folder instead.")
    ] = None,
) -> None:
    """Print the resolved configuration, or write the generated defaults and their schema."""
    from medwvae.config_io import schema_json, to_yaml
    from medwvae.files import atomic

    resolved = _load(files, overrides)
    if write_defaults is None:
        typer.echo(to_yaml(resolved), nl=False)
        return
    for name, text in (("default.yaml", to_yaml(_load(None, None), comments=True)), ("schema.json", schema_json())):
        with atomic(write_defaults / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


@app.command()
def phantom(files: Files = None, overrides: Overrides = None, threads: Threads = 1) -> None:
    """Write the synthetic cohort as DICOM series (or NIfTI)."""
    from medwvae import stages

    stages.phantom(_load(files, overrides), threads)


@app.command()
def ingest(files: Files = None, overrides: Overrides = None, threads: Threads = 1) -> None:
    """Convert DICOM series and NIfTI files to canonical volumes and list them in the manifest."""
    from medwvae import stages

    stages.ingest(_load(files, overrides), threads)


@app.command()
def deidentify(
    source: Annotated[Path, typer.Argument(help="Folder of DICOM files under any names; only read.")],
    out: Annotated[
        Path, typer.Argument(help="Folder for the cleaned files: empty, absent, or of the same run before.")
    ],
    key: Annotated[
        Path | None, typer.Option("--key", help="Secret key; by default made in OUT-private/, beside OUT.")
    ] = None,
    dates: Annotated[
        str, typer.Option("--dates", help="shift (by each subject's own number of days) or remove.")
    ] = "shift",
    threads: Threads = 1,
) -> None:
    """Copy a DICOM tree without identity (PS3.15 Basic Application Level Confidentiality Profile)."""
    from medwvae import stages
    from medwvae.progress import hide

    for label, path in (("source", source), ("out", out), *((("key", key),) if key else ())):
        hide(path, label)
    stages.deidentify(source, out, key, dates, threads)


@app.command()
def split(files: Files = None, overrides: Overrides = None) -> None:
    """Assign subjects to training, validation and test."""
    from medwvae import stages

    stages.split(_load(files, overrides))


@app.command()
def preprocess(files: Files = None, overrides: Overrides = None, threads: Threads = 1) -> None:
    """Find heads, scale intensities, cut into slices."""
    from medwvae import stages

    stages.preprocess(_load(files, overrides), threads)


@app.command()
def train(
    task: TaskName,
    network: Annotated[str, typer.Option("--network", help="wavelet_vae, conv_vae or unet.")],
    files: Files = None,
    overrides: Overrides = None,
    threads: Threads = 1,
) -> None:
    """Train one network for one task; started again after a kill, it goes on where it was."""
    from medwvae import stages

    stages.train(_load(files, overrides), task, network, threads)


@app.command()
def restore(
    task: TaskName,
    method: Annotated[str, typer.Option("--method", help="A network, a classical method, input or exact_inverse.")],
    files: Files = None,
    overrides: Overrides = None,
    threads: Threads = 1,
) -> None:
    """Restore the test volumes with one method (classical ones are tuned on validation subjects first)."""
    from medwvae import stages

    stages.restore(_load(files, overrides), task, method, threads)


@app.command()
def evaluate(task: TaskName, files: Files = None, overrides: Overrides = None, threads: Threads = 1) -> None:
    """Score every method of a task per subject."""
    from medwvae import stages

    stages.evaluate(_load(files, overrides), task, threads)


@app.command()
def report(files: Files = None, overrides: Overrides = None) -> None:
    """Write metrics.csv, summary.json and report.html, and print the summary."""
    from medwvae import stages

    stages.report(_load(files, overrides))


@app.command()
def export(
    out: Annotated[Path, typer.Option("--out", help="New folder that gets the volumes.")],
    task: Annotated[str | None, typer.Option("--task", help="autoencode, superres, denoise or recon.")] = None,
    method: Annotated[str | None, typer.Option("--method", help="The method that restored the volumes.")] = None,
    volume: Annotated[Path | None, typer.Option("--volume", help="Only this restored volume (NIfTI).")] = None,
    source: Annotated[
        Path | None, typer.Option("--source", help="DICOM folder or file it came from, if no study knows.")
    ] = None,
    uncertainty: Annotated[
        Path | None, typer.Option("--uncertainty", help="Map on the volume's grid (NIfTI), for a Parametric Map.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="With --deidentified: pseudonym of a volume that no study knows.")
    ] = None,
    deidentified: Annotated[
        bool, typer.Option("--deidentified", help="Without patient and study; with a pseudonym and new UIDs.")
    ] = False,
    files: Files = None,
    overrides: Overrides = None,
) -> None:
    """Write restored volumes as derived DICOM series, and as NIfTI, on the grid of their source."""
    from medwvae import stages
    from medwvae.progress import hide

    for label, path in (("source", source), ("volume", volume), ("uncertainty", uncertainty), ("out", out)):
        if path:
            hide(path, label)
    stages.export(
        _load(files, overrides),
        out,
        task=task,
        method=method,
        volume=volume,
        source=source,
        uncertainty=uncertainty,
        deidentified=deidentified,
        name=name,
    )


def main() -> None:
    """Run the command line; errors a user can act on, also of disks and permissions, are one line and exit code 2."""
    from medwvae import progress

    try:
        app()
    except MedwvaeError as error:
        progress.say(f"medwvae: error: {error}")
        sys.exit(2)
    except Exception as error:
        if (words := storage_words(error)) and os.environ.get("MEDWVAE_TRACEBACK") != "full":
            found = os_error(error)
            where = progress.place(found.filename) if found and isinstance(found.filename, str | os.PathLike) else ""
            progress.say(f"medwvae: error: {f'{where}: ' if where else ''}{words}")
            sys.exit(2)
        progress.say(f"medwvae: this is a mistake of the program's own:\n{nameless_traceback(error)}")
        if os.environ.get("MEDWVAE_TRACEBACK") == "full":
            raise
        progress.say(
            "Texts are left out, for they can name a patient; MEDWVAE_TRACEBACK=full shows them on the terminal."
        )
        sys.exit(1)
