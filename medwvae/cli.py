"""The command line: one subcommand per rule. Nothing heavy is imported before a subcommand needs it."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from medwvae.errors import InputError, MedwvaeError, nameless_traceback, os_error, storage_words

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
ModelName = Annotated[str, typer.Option("--model", help="Id of a generative model, for example elbo-r8-s1.")]
TaskName = Annotated[str, typer.Option("--task", help="superres, denoise, recon, ct or inpaint.")]
ProblemName = Annotated[
    str, typer.Option("--task", help="A task, or one of its settings in the configuration, as denoise-s3.")
]
OwnLatent = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Of the latent of this Wavelet-VAE of the study (-c), with its own family and levels, not of the image.",
    ),
]
LabelName = Annotated[
    str | None, typer.Option("--label", metavar="NAME", help="Class, for a model that has classes: t1w, cat, 7.")
]
OutFolder = Annotated[Path | None, typer.Option("--out", help="Folder; by default latents/MODEL of the study.")]
VolumeIn = Annotated[Path, typer.Argument(metavar="IN", help="NIfTI volume; only read.")]
WaveletName = Annotated[str, typer.Option("--wavelet", help="Family, by PyWavelets' name.")]
LevelCount = Annotated[str, typer.Option("--levels", help="One number, or one per axis, as 3,3,1.")]
BorderMode = Annotated[str, typer.Option("--mode", help="Border mode, see docs/wavelets.md.")]
AcrossAxis = Annotated[
    int | None, typer.Option("--axis", help="Across the slices: 0, 1 or 2; by default the thickest voxels'.")
]

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
    network: Annotated[str, typer.Option("--network", help="wavelet_vae, conv_vae, unet, dncnn or unrolled_unet.")],
    files: Files = None,
    overrides: Overrides = None,
    threads: Threads = 1,
) -> None:
    """Train one network for one task; started again after a kill, it goes on where it was."""
    from medwvae import stages

    stages.train(_load(files, overrides), task, network, threads)


@app.command()
def restore(
    task: ProblemName,
    method: Annotated[str, typer.Option("--method", help="A network, a classical method or input.")],
    files: Files = None,
    overrides: Overrides = None,
    threads: Threads = 1,
    max_memory: Annotated[
        str | None,
        typer.Option(
            "--max-memory", metavar="SIZE", help="As 2GiB; by default a share of what is free. Networks only."
        ),
    ] = None,
) -> None:
    """Restore the test volumes with one method (classical ones are tuned on validation subjects first)."""
    from medwvae import stages

    stages.restore(_load(files, overrides), task, method, threads, max_memory)


@app.command()
def evaluate(task: ProblemName, files: Files = None, overrides: Overrides = None, threads: Threads = 1) -> None:
    """Score every method of a task per subject."""
    from medwvae import stages

    stages.evaluate(_load(files, overrides), task, threads)


@app.command()
def train_generative(model: ModelName, files: Files = None, overrides: Overrides = None, threads: Threads = 1) -> None:
    """Train one generative model; started again after a kill, it goes on where it was."""
    from medwvae import stages

    stages.train_generative(_load(files, overrides), model, threads)


@app.command()
def train_prior(model: ModelName, files: Files = None, overrides: Overrides = None, threads: Threads = 1) -> None:
    """Train the prior on a generative model's latent."""
    from medwvae import stages

    stages.train_prior(_load(files, overrides), model, threads)


@app.command()
def score_generative(model: ModelName, files: Files = None, overrides: Overrides = None, threads: Threads = 1) -> None:
    """Score one generative model on the test subjects' slices."""
    from medwvae import stages

    stages.score_generative(_load(files, overrides), model, threads)


@app.command()
def generative_references(files: Files = None, overrides: Overrides = None, threads: Threads = 1) -> None:
    """Score lossless codecs, and training images in the place of samples."""
    from medwvae import stages

    stages.generative_references(_load(files, overrides), threads)


@app.command()
def generative_uses(model: ModelName, files: Files = None, overrides: Overrides = None, threads: Threads = 1) -> None:
    """Draw the report's figures of a latent in use: walk, edit, heatmaps, imputation."""
    from medwvae import stages

    stages.generative_uses(_load(files, overrides), model, threads)


@app.command()
def generative_report(files: Files = None, overrides: Overrides = None) -> None:
    """Write generative.csv and generative.json, and print the table."""
    from medwvae import stages

    stages.generative_report(_load(files, overrides))


@app.command()
def report(files: Files = None, overrides: Overrides = None) -> None:
    """Write metrics.csv, summary.json and report.html, and print the summary."""
    from medwvae import stages

    stages.report(_load(files, overrides))


@app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="A B [C ...]", help="Result folders; A is the baseline.")],
    method: Annotated[
        list[str] | None,
        typer.Option("--method", help="Compared with itself; repeatable. Default: A's report.reference."),
    ] = None,
    region: Annotated[str | None, typer.Option("--region", help="head, whole or lesion; by default the head.")] = None,
    fail_if_worse: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if-worse",
            metavar="METRIC:MARGIN",
            help="Exit code 3 if a later run is significantly worse than A by more than MARGIN (the metric's unit; "
            "psnr:0.1 is 0.1 dB): its mean difference is, and a one-sided Wilcoxon test, paired by subject, of "
            "difference + margin gives p < .05 after Holm over all that is tested. Repeatable.",
        ),
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing", help="With --fail-if-worse: test what there is, though a later run lacks what A has."
        ),
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all numbers to this file.")] = None,
    out: Annotated[
        list[Path] | None, typer.Option("--out", help="Page (.html) or figure (.png, .svg, .pdf); repeatable.")
    ] = None,
) -> None:
    """Compare two or more finished runs, paired by subject."""
    from medwvae import stages
    from medwvae.progress import hide

    for place, folder in enumerate(folders):
        hide(folder, f"folder {place + 1}")
    for path in (*(out or ()), *((json_file,) if json_file else ())):
        hide(path, "out")
    failed = stages.compare(
        folders,
        methods=method,
        region=region,
        fail_if_worse=fail_if_worse or (),
        allow_missing=allow_missing,
        json_file=json_file,
        out=out or (),
    )
    if failed:
        raise typer.Exit(3)


@app.command()
def card(files: Files = None, overrides: Overrides = None) -> None:
    """Write the model card and the data sheet of a finished run (Markdown and HTML)."""
    from medwvae import stages

    stages.card(_load(files, overrides))


@app.command()
def export(
    out: Annotated[Path, typer.Option("--out", help="New folder that gets the volumes.")],
    task: Annotated[str | None, typer.Option("--task", help="A task, or one of its settings.")] = None,
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


@app.command()
def sample(
    model: ModelName,
    count: Annotated[int, typer.Option("--count", min=1, help="Number of images.")] = 64,
    shape: Annotated[
        str | None,
        typer.Option("--shape", "--size", help="Voxels per axis, as 96,128 or 48,64,56; by default the study's."),
    ] = None,
    temperature: Annotated[float, typer.Option("--temperature", min=0, help="Factor of the prior's spread.")] = 1.0,
    label: LabelName = None,
    seed: Annotated[int | None, typer.Option("--seed", help="By default the study's.")] = None,
    out: OutFolder = None,
    files: Files = None,
    overrides: Overrides = None,
    threads: Threads = 1,
) -> None:
    """Draw images from a generative model's prior: a grid, the arrays; volumes of a 3D model as NIfTI."""
    from medwvae import stages

    config = _load(files, overrides)
    stages.sample(
        config, model, threads, count=count, shape=shape, temperature=temperature, label=label, seed=seed, out=out
    )


@app.command()
def interpolate(
    model: Annotated[list[str], typer.Option("--model", help="A generative model; repeatable, side by side.")],
    first: Annotated[str | None, typer.Option("--from", help="Test subject; by default the first.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Test subject; by default the second.")] = None,
    steps: Annotated[int, typer.Option("--steps", min=3, help="Images on the walk, its ends included.")] = 9,
    kind: Annotated[str, typer.Option("--kind", help="linear or spherical.")] = "spherical",
    label: LabelName = None,
    out: OutFolder = None,
    files: Files = None,
    overrides: Overrides = None,
    threads: Threads = 1,
) -> None:
    """Walk through a latent between two subjects, and measure how smooth the walk is."""
    from medwvae import stages

    config = _load(files, overrides)
    stages.interpolate(config, model, threads, first=first, last=last, steps=steps, kind=kind, label=label, out=out)


@app.command()
def impute(
    context: typer.Context,
    model: ModelName,
    count: Annotated[int, typer.Option("--count", min=1, help="Test subjects, one image each.")] = 4,
    hole: Annotated[int, typer.Option("--hole", min=1, help="Side of the block that is missing, in voxels.")] = 24,
    missing_slices: Annotated[
        str | None, typer.Option("--missing-slices", help="Slices that are missing instead, as 10,11; 3D models only.")
    ] = None,
    axis: Annotated[
        int, typer.Option("--axis", min=0, max=2, help="Of missing slices: 0 sagittal, 1 coronal, 2 axial.")
    ] = 2,
    method: Annotated[
        str, typer.Option("--method", help="map: the likeliest; chain: on from there, with a spread.")
    ] = "map",
    sweeps: Annotated[
        int, typer.Option("--sweeps", min=2, help="Steps of either; the chain leaves the first half out.")
    ] = 100,
    label: LabelName = None,
    out: OutFolder = None,
    files: Files = None,
    overrides: Overrides = None,
    threads: Threads = 1,
) -> None:
    """Take a block out of test subjects' images, fill it in by a generative model, and score that."""
    from medwvae import stages

    if missing_slices is None:
        _refuse(context, ["axis"], "that is the axis of missing slices; add --missing-slices")
    else:
        _refuse(context, ["hole"], "slices are missing, no block; leave it out with --missing-slices")
    stages.impute(
        _load(files, overrides),
        model,
        threads,
        count=count,
        hole=hole,
        missing_slices=missing_slices,
        axis=axis,
        method=method,
        sweeps=sweeps,
        label=label,
        out=out,
    )


def _refuse(context: typer.Context, options: Sequence[str], why: str) -> None:
    """Refuse options that were given and say nothing here: who gives one believes that it does."""
    given = [name for name in options if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"]
    if given:
        flags = {one.name: one.opts[0] for one in context.command.params}
        raise InputError(f"{', '.join(flags[name] for name in given)}: {why}")


OF_TRANSFORM = ("wavelet", "levels", "mode", "dims", "axis")
OF_MODEL = ("label", "files", "overrides")


@app.command()
def edit(
    context: typer.Context,
    source: VolumeIn,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="New NIfTI volume, float32, on the same grid (--model: the model's).")
    ],
    gain: Annotated[
        list[str],
        typer.Option("--gain", metavar="NAME=FACTOR", help="level1=0, dd2=1.5, details=0.5, ...; outside the mask."),
    ],
    inside: Annotated[
        list[str] | None, typer.Option("--gain-inside", metavar="NAME=FACTOR", help="The same, inside the mask.")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option("--mask", help="NIfTI on the volume's grid; what is not zero lies inside.")
    ] = None,
    protect: Annotated[
        bool,
        typer.Option("--protect", help="Leave the mask as it is, and more around it (--model: its coefficients)."),
    ] = False,
    wavelet: WaveletName = "db4",
    levels: LevelCount = "3",
    mode: BorderMode = "symmetric",
    dims: Annotated[int, typer.Option("--dims", help="3, or 2: slice by slice.")] = 3,
    axis: AcrossAxis = None,
    model: OwnLatent = None,
    label: LabelName = None,
    files: Files = None,
    overrides: Overrides = None,
    threads: Threads = 1,
) -> None:
    """Multiply a volume's wavelet coefficients by gains: smooth the background, leave the lesion."""
    from medwvae import stages
    from medwvae.progress import hide

    for place, path in (("volume", source), ("out", out), *((("mask", mask),) if mask else ())):
        hide(path, place)
    if model is None:
        _refuse(context, OF_MODEL, "that is for a trained model's own latent; add --model")
    else:
        _refuse(context, OF_TRANSFORM, "the transform is the model's own; leave it out with --model")
        stages.edit_latent(
            _load(files, overrides),
            model,
            source,
            out,
            gain,
            threads,
            inside=inside or (),
            mask=mask,
            protect=protect,
            label=label,
        )
        return
    stages.edit(
        source,
        out,
        gain,
        inside=inside or (),
        mask=mask,
        protect=protect,
        wavelet=wavelet,
        levels=levels,
        mode=mode,
        dims=dims,
        axis=axis,
    )


@app.command()
def heatmap(
    context: typer.Context,
    source: VolumeIn,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="PNG.")],
    wavelet: WaveletName = "db4",
    levels: LevelCount = "3",
    mode: BorderMode = "symmetric",
    dims: Annotated[int, typer.Option("--dims", help="2: of the slice alone, or 3: of the volume.")] = 2,
    axis: Annotated[
        int | None,
        typer.Option("--axis", help="0 sagittal, 1 coronal, 2 axial; by default across the thickest voxels."),
    ] = None,
    index: Annotated[int | None, typer.Option("--index", help="The slice to show; by default the middle.")] = None,
    model: OwnLatent = None,
    label: LabelName = None,
    files: Files = None,
    overrides: Overrides = None,
    threads: Threads = 1,
) -> None:
    """Draw the magnitude of a volume's wavelet coefficients per level and orientation."""
    from medwvae import stages
    from medwvae.progress import hide

    for place, path in (("volume", source), ("out", out)):
        hide(path, place)
    if model is None:
        _refuse(context, OF_MODEL, "that is for a trained model's own latent; add --model")
    else:
        _refuse(context, OF_TRANSFORM, "the transform is the model's own; leave it out with --model")
        stages.heatmap_latent(_load(files, overrides), model, source, out, threads, index=index, label=label)
        return
    stages.heatmap(source, out, wavelet=wavelet, levels=levels, mode=mode, dims=dims, axis=axis, index=index)


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
