"""Intervals in the report: the right sentence, the plot, a map that eyes of every kind can read."""

import dataclasses

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from medwvae.names import INTERVAL_LEVELS
from medwvae.report.page import build, summary
from medwvae.report.uncertainty import IntervalInputs, interval_section, sentences
from medwvae.statistics import Calibration
from tests.report.test_report import inputs

__all__ = ["inputs"]
KNOWN = Calibration(0.9, {level: 2 * level for level in INTERVAL_LEVELS}, 4, (0.87, 0.93))


def rows(metrics, off=0.0):
    """Coverage of every subject, `off` from its level, as `evaluate` writes it."""
    base = metrics[(metrics["method"] == "wavelet_vae") & (metrics["region"] == "head") & (metrics["metric"] == "psnr")]
    wanted = {f"coverage_{100 * level:g}": level + off for level in INTERVAL_LEVELS}
    wanted |= {"coverage_narrow": 0.93, "coverage_wide": 0.88, "coverage_edges": 0.85}
    wanted |= {"interval_width": 0.083, "width_error_rank": 0.52}
    more = [base.assign(metric=name, value=value, unit="") for name, value in wanted.items()]
    return pd.concat([metrics, *more], ignore_index=True)


@pytest.fixture(scope="module")
def unsure(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("intervals")
    maps = {}
    for volume, path in inputs.truths.items():
        truth = nib.load(path)
        maps[volume] = folder / f"{volume}_uncertainty.nii.gz"
        nib.save(nib.Nifti1Image(30 + 0.1 * truth.get_fdata().astype(np.float32), truth.affine), maps[volume])
    intervals = {"denoise": {"wavelet_vae": IntervalInputs(KNOWN, 16)}}
    maps_of = {"denoise": {"wavelet_vae": maps}}
    return dataclasses.replace(inputs, metrics=rows(inputs.metrics), intervals=intervals, uncertainties=maps_of)


def test_the_page_says_how_sure_the_method_is(unsure, inputs):
    page = build(unsure)
    assert page.count("How sure Wavelet-VAE (ours) is") == 1
    assert "The 90 % intervals of Wavelet-VAE (ours), calibrated on 4 validation subjects, hold 90.0 %" in page
    assert "coverage of the intervals by their level: 50 %: 50.0 %" in page
    assert "Half-width: axial slice" in page and "Absolute error: axial slice" in page
    assert '<th scope="row">Edges</th>' in page
    # They stand there alone, not among the columns of the other metrics.
    assert page.count(">Coverage of 90 % intervals") == page.count("<dt>Coverage of 90 % intervals")
    assert "How sure" not in build(inputs)


def test_without_a_map_there_is_no_picture(unsure):
    page = build(dataclasses.replace(unsure, uncertainties={}))
    assert "How sure" in page and "Half-width" not in page


@pytest.mark.parametrize(
    ("off", "held"),
    [(0.0, "as promised"), (-0.015, "slightly fewer than promised"), (-0.05, "too few"), (0.04, "more than promised")],
)
def test_words_follow_the_numbers(inputs, off, held):
    result = summary(rows(inputs.metrics, off))
    blocks = result["tasks"]["denoise"]["regions"]["head"]
    found = {
        name: block["methods"]["wavelet_vae"] for name, block in blocks.items() if "wavelet_vae" in block["methods"]
    }
    said = sentences("wavelet_vae", IntervalInputs(KNOWN, 16), found)
    assert f"in 8 test subjects: {held}." in said
    assert "held 87.0 % to 93.0 % of the voxels" in said
    assert "8.3 % of the maximum wide" in said and "ρ = 0.520" in said
    assert "They hold least, 85.0 %, where voxels are at edges" in said


def test_what_was_not_scored_has_no_section(inputs):
    blocks = summary(inputs.metrics)["tasks"]["denoise"]["regions"]["head"]
    assert interval_section("wavelet_vae", IntervalInputs(KNOWN, 16), blocks, inputs.metrics, "t") is None
