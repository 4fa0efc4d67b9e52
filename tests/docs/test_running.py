"""Commands of the documentation that are cheap, run as they stand where their files exist, small.

Models that `--model` names stand in untrained. What needs a finished study runs in `tests/workflow/test_docs.py`.
"""

import csv
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from medwvae import cli
from medwvae.config import Config
from medwvae.config_io import load, to_yaml
from medwvae.data import manifest, nifti, splits
from tests.cases import case, head_like
from tests.data.series import image_of, write_series
from tests.docs.blocks import Block, blocks, commands
from tests.latents.models import Waves
from tests.latents.test_stage import stand_in, tiny_wavelet_vae
from tests.latents.volumes import SlicesInMemory
from tests.report.test_report import table

CHEAP = ("--help", "config", "deidentify", "compare", "edit", "heatmap", "sample", "interpolate", "impute")
RUN = [(block, words[1:]) for block, words in commands() if words[0] == "medwvae" and words[1] in CHEAP]
SIZE = (40, 36)
ELSEWHERE = {"/data/export": "data/export", "/data/export-clean": "data/export-clean", "SOURCE": "data/export"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages name."""
    monkeypatch.chdir(tmp_path)
    volume, head = head_like((*SIZE, 12))
    affine = np.diag([1.0, 1, 2.5, 1])
    demo = Path("results/demo/restored/denoise/wavelet_vae")
    for path in ("T1.nii.gz", "CT.nii.gz", "slices.nii.gz", demo / "sub-PHANTOM003_ses-1_t1w.nii.gz"):
        nifti.write(Path(path), 1000 * volume, affine)
    lesion = np.zeros(volume.shape, np.float32)
    lesion[18:22, 16:20, 5:7] = 1
    nifti.write(Path("lesion.nii.gz"), lesion * head, affine)
    write_series(Path("data/export"), image_of(3, 16, 16), PatientID="A")
    for folder in {Path(word) for _, words in RUN if words[0] == "compare" for word in words if "results/" in word}:
        folder.mkdir(parents=True, exist_ok=True)
        table().assign(run=folder.name).to_csv(folder / "metrics.csv", index=False)
    for file, text in {"results/mystudy/config.yaml": to_yaml(Config()), "mine.yaml": "run: mine\n"}.items():
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(text, encoding="utf-8")
    Path("small.yaml").write_text(next(b.text for b in blocks("yaml") if "run: small" in b.text), encoding="utf-8")
    (tmp_path / "results/mystudy/private").mkdir()
    (tmp_path / "results/mystudy/private/key").write_text(bytes(range(32)).hex(), encoding="ascii")
    wavelet = tiny_wavelet_vae(2)
    models = {"elbo-r8-s1": wavelet, "elbo-r16-s1": wavelet, "conv_vae-r8-s1": Waves()}
    stand_in(monkeypatch, models, SlicesInMemory([case(f"v{k}", (9, *SIZE), k, 0, f"s{k}") for k in range(2)], SIZE))
    return tmp_path


@pytest.mark.parametrize(("block", "words"), [pytest.param(*c, id=f"{c[0]}-{' '.join(c[1])[:60]}") for c in RUN])
def test_a_command_runs(block: Block, words: list[str], here):
    answer = CliRunner().invoke(cli.app, [ELSEWHERE.get(word, word) for word in words])
    if answer.exception is not None and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    assert answer.exit_code == 0, answer.output
    for word in words:
        if word.endswith((".png", ".html", ".json")) or word in {"out.nii.gz", "smoothed.nii.gz"}:
            assert Path(word).stat().st_size > 0


LINES = [
    (block, line)
    for block in blocks("bash")
    for line in block.text.splitlines()
    if line.partition(" ")[0] in ("cut", "head", "grep")
]
SHOWN = next(block for block in blocks("text") if block.text.startswith("volume,"))
"""What the tutorial shows of the demo's manifest."""
SPLIT = next(block for block in blocks("text") if block.text.startswith("sub-PHANTOM"))
"""What it shows of the demo's split."""


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables of a finished demo, the manifest with the rows that the tutorial shows; no two columns are alike."""
    monkeypatch.chdir(tmp_path)
    rows = []
    for shown in csv.DictReader(SHOWN.text.splitlines()):
        known: dict[str, Any] = {**shown, "age": float(shown["age"])}
        rows.append(manifest.Row(subject=known["volume"][:14], modality="MR", spacing="1x1x1", site="site-a", **known))
    more = manifest.Row("sub-PHANTOM020_ses-1_t1w", "sub-PHANTOM020")
    manifest.write(Path("results/demo/manifest.csv"), [*rows, more])
    config = load((Path(__file__).parents[2] / "configs/demo.yaml",))
    people = [f"sub-PHANTOM{k:03d}" for k in range(1, 1 + config.phantom.subjects)]
    own = config.split
    assigned = splits.split(people, fractions=(own.train, own.val, own.test), seed=config.seed)
    splits.write(Path("results/demo/splits.csv"), assigned)
    table().to_csv("results/demo/metrics.csv", index=False)


@pytest.mark.parametrize(("block", "line"), [pytest.param(*c, id=f"{c[0]}-{c[1][:60]}") for c in LINES])
def test_a_line_of_the_shell_shows_what_the_page_shows(block: Block, line: str, demo):
    done = subprocess.run(["bash", "-euc", line], capture_output=True, text=True, check=True)
    assert done.stdout.strip() and not done.stderr
    if "manifest.csv" in line:
        assert done.stdout == SHOWN.text
    if "splits.csv" in line:
        assert done.stdout == SPLIT.text
