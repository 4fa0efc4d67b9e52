"""Every result path of a study, one function each. `root` is results/<run>."""

from pathlib import Path


def config(root: Path) -> Path:
    """Return the resolved configuration of the last start."""
    return root / "config.yaml"


def phantom(root: Path) -> Path:
    """Return the folder of the synthetic cohort, as a scanner would have exported it."""
    return root / "phantom"


def private(root: Path) -> Path:
    """Return the folder of the pseudonym key and table (mode 600); not a result, never shared."""
    return root / "private"


def sources(root: Path) -> Path:
    """Return the private table that leads from a volume back to the file that it came from."""
    return private(root) / "key_sources.csv"


def canonical(root: Path) -> Path:
    """Return the folder of canonical NIfTI volumes, a BIDS derivative dataset; the manifest says where each lies."""
    return root / "canonical"


def ingest_state(root: Path) -> Path:
    """Return the folder of finished images, from which an interrupted ingestion goes on; never declared."""
    return root / "state" / "ingest"


def manifest(root: Path) -> Path:
    """Return the table of every image found, usable or refused."""
    return root / "manifest.csv"


def splits(root: Path) -> Path:
    """Return the table of subjects and parts."""
    return root / "splits.csv"


def prepared(root: Path) -> Path:
    """Return the folder of slices in network units, one .npz a volume."""
    return root / "prepared"


def prepared_index(root: Path) -> Path:
    """Return the list of prepared volumes; it names the files of the folder `prepared`."""
    return root / "prepared.csv"


def model(root: Path, task: str, network: str) -> Path:
    """Return the trained weights."""
    return root / "models" / task / network / "model.pt"


def history(root: Path, task: str, network: str) -> Path:
    """Return the training history."""
    return root / "models" / task / network / "history.csv"


def training_state(root: Path, digest: str) -> Path:
    """Return the folder of a training's resumable state; keyed by what decides its result, so never declared."""
    return root / "state" / digest


def restored(root: Path, problem: str, method: str) -> Path:
    """Return the folder of restored volumes of a problem: a task, or one of its settings."""
    return root / "restored" / problem / method


def volume(folder: Path, name: str) -> Path:
    """Return a volume's NIfTI in any folder of volumes."""
    return folder / f"{name}.nii.gz"


def uncertainty(folder: Path, name: str) -> Path:
    """Return the map of a restored volume's uncertainty, beside the volume, where a method gives one."""
    return folder / f"{name}_uncertainty.nii.gz"


def record(root: Path, problem: str, method: str) -> Path:
    """Return what is known about a restoration: tuning, seconds, files."""
    return restored(root, problem, method) / "record.json"


def latent_uses(root: Path, model: str) -> Path:
    """Return the folder of what was drawn, walked and filled in with a trained model's latent."""
    return root / "latents" / model


def scores(root: Path, problem: str) -> Path:
    """Return one problem's metrics per subject; the per-volume table lies beside it."""
    return root / "scores" / f"{problem}.csv"


def volume_scores(root: Path, problem: str) -> Path:
    """Return one problem's metrics per volume."""
    return root / "scores" / f"{problem}_volumes.csv"


def generative(root: Path, model: str) -> Path:
    """Return the folder of one generative model: weights, histories, scores, pictures."""
    return root / "generative" / model


def generative_model(root: Path, model: str) -> Path:
    """Return the trained weights of a generative model."""
    return generative(root, model) / "model.pt"


def generative_history(root: Path, model: str) -> Path:
    """Return the training history of a generative model."""
    return generative(root, model) / "history.csv"


def generative_prior(root: Path, model: str) -> Path:
    """Return the trained weights of the prior on a model's latent."""
    return generative(root, model) / "prior.pt"


def generative_prior_history(root: Path, model: str) -> Path:
    """Return the training history of that prior."""
    return generative(root, model) / "prior_history.csv"


def generative_scores(root: Path, model: str) -> Path:
    """Return a generative model's scores per test subject, long format."""
    return generative(root, model) / "scores.csv"


def generative_facts(root: Path, model: str) -> Path:
    """Return what belongs to a whole generative model: size, speed, distances between distributions."""
    return generative(root, model) / "facts.json"


def generative_pictures(root: Path, model: str) -> Path:
    """Return samples, their nearest training images, and reconstructions, as arrays."""
    return generative(root, model) / "pictures.npz"


def generative_uses(root: Path, model: str) -> Path:
    """Return the numbers of what the report does with a generative model's latent."""
    return generative(root, model) / "uses" / "uses.json"


def generative_use(root: Path, model: str, name: str) -> Path:
    """Return the figure of one of these uses, named as in `names.LATENT_USES`."""
    return generative(root, model) / "uses" / f"{name}.png"


def generative_table(root: Path) -> Path:
    """Return the scores of all generative models per subject, long format."""
    return root / "generative.csv"


def generative_summary(root: Path) -> Path:
    """Return the table of generative models as JSON: means, intervals, ranges over seeds."""
    return root / "generative.json"


def image_cache(root: Path) -> Path:
    """Return the folder of scaled photographs and digits; may be deleted at any time, so never declared."""
    return root / "state" / "images"


def metrics(root: Path) -> Path:
    """Return all metrics, long format, one value a row."""
    return root / "metrics.csv"


def summary(root: Path) -> Path:
    """Return the table of means and intervals as JSON."""
    return root / "summary.json"


def report(root: Path) -> Path:
    """Return the page."""
    return root / "report.html"


def model_card(root: Path, suffix: str) -> Path:
    """Return the model card; `suffix` is md or html."""
    return root / f"model_card.{suffix}"


def data_sheet(root: Path, suffix: str) -> Path:
    """Return the data sheet; `suffix` is md or html."""
    return root / f"data_sheet.{suffix}"


def log(root: Path, rule: str) -> Path:
    """Return the log of a rule; `rule` may hold wildcards."""
    return root / "logs" / f"{rule}.log"


def benchmark(root: Path, rule: str) -> Path:
    """Return Snakemake's benchmark table of a rule."""
    return root / "benchmarks" / f"{rule}.tsv"
