"""Verdicts of `medwvae compare` on real heads: runs of IXI that differ by chance alone, and one with a planted loss."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from typer.testing import CliRunner

from medwvae.cli import app
from medwvae.data.transforms import prepare
from medwvae.protocols import PROTOCOLS, score

IXI = Path(__file__).parents[3] / "shared" / "data" / "ixi"
SUBJECTS = 8

pytestmark = pytest.mark.skipif(not IXI.is_dir(), reason="the shared images are not here")


@pytest.fixture(scope="module")
def heads():
    files = sorted(IXI.glob("*.nii.gz"))[:SUBJECTS]
    return [prepare(file, modality="MR", plane="axial", percentile=99.5) for file in files]


def study(folder, heads, seed, loss=0.0):
    """Denoise every head from noise of its own; `loss` in dB is planted by noise in the answers. Return the folder."""
    protocol, rows = PROTOCOLS["brainweb-rician"], []
    for place, head in enumerate(heads):
        rng = np.random.default_rng([seed, place])
        noisy = head.image + rng.normal(0, 0.05 * head.image.max(), head.image.shape)
        answer = ndimage.gaussian_filter(noisy, 0.6)
        error = np.mean((answer - head.image)[head.head] ** 2)
        answer += rng.normal(0, np.sqrt(error * (10 ** (loss / 10) - 1)), answer.shape)
        rows += [
            {"subject": f"sub-{place:02}", "region": one.region, "metric": one.metric, "value": one.value}
            | {"unit": one.unit, "run": folder.name, "task": "denoise", "setting": "5 %", "method": "smooth"}
            | {"kind": "classical", "protocol": protocol.name, "distance": np.nan}
            for one in score(protocol, answer.astype(np.float32), head.image, head.head)
        ]
    folder.mkdir()
    pd.DataFrame(rows).to_csv(folder / "metrics.csv", index=False)
    return folder


def test_a_planted_loss_is_a_regression_and_another_draw_of_noise_is_none(heads, tmp_path):
    base, again, worse = (
        str(study(tmp_path / name, heads, seed, loss))
        for name, seed, loss in (("base", 1, 0.0), ("again", 2, 0.0), ("worse", 3, 0.2))
    )
    verdicts = tmp_path / "verdicts.json"
    options = ["--method", "smooth", "--fail-if-worse", "psnr:0.1", "--json", str(verdicts)]
    null = CliRunner().invoke(app, ["compare", base, again, *options])
    assert null.exit_code == 0, null.output
    (psnr,) = [row for row in json.loads(verdicts.read_text())["rows"] if row["metric"] == "psnr"]
    assert psnr["verdict"] == "no difference shown" and psnr["n"] == SUBJECTS and abs(psnr["difference"]) < 0.02
    planted = CliRunner().invoke(app, ["compare", base, worse, *options])
    assert planted.exit_code == 3 and "REGRESSION" in planted.output
    (psnr,) = [row for row in json.loads(verdicts.read_text())["rows"] if row["metric"] == "psnr"]
    assert psnr["verdict"] == "worse" and psnr["difference"] == pytest.approx(-0.2, abs=0.02)
