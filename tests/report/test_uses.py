"""The report's section on a latent in use: figures with words, the numbers of the facts, nothing unescaped."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medwvae.names import LATENT_USES
from medwvae.report.page import build
from medwvae.report.uses import UsesInputs, uses_section
from tests.report.test_generative import alone, generative  # noqa: F401 -- fixtures
from tests.report.test_report import Elements, words

WALK = {"path_ratio": 1.094, "rmse_variation": 0.05, "dissimilarity_variation": 0.35, "strangeness": 0.99}
FACTS: dict[str, Any] = {
    "model": "elbo-r8-s1",
    "beside": "conv_vae-r8-s1",
    "walk": {
        "alt": "a walk", "subjects": ["s1", "s2"], "steps": 7,
        "models": {
            "elbo-r8-s1": WALK | {"crossfade_strangeness": None},
            "conv_vae-r8-s1": WALK | {"path_ratio": 1.427, "crossfade_strangeness": 2.1},
        },
    },
    "edit": {
        "alt": "an edit", "region": "disc", "subject": "s1", "wavelet": "db4", "reach": 6, "voxels_deep_inside": 397,
        "changed_deep_inside": 0, "rms_change_outside": 0.0541,
    },
    "heatmap": {
        "alt": "heatmaps", "dims": 2, "subject": "s1", "wavelet": "haar", "energy": {"2": 0.6, "1": 0.4},
        "kept": ["ad2", "da2"],
        "correlation": {"ad2": 0.987, "da2": None},
    },
    "imputed": {
        "alt": "imputations", "subjects": ["s1", "s2"], "method": "map", "fillings": ["model", "biharmonic", "mean"],
        "holes": {"block": {"what": "a block", "rmse": {"model": 0.462, "biharmonic": 0.197, "mean": 0.485}}},
    },
}  # fmt: skip


@pytest.fixture
def inputs(tmp_path):
    for name in LATENT_USES:
        Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / f"{name}.png")
    return UsesInputs(FACTS, {name: tmp_path / f"{name}.png" for name in LATENT_USES})


def paged(alone, generative, inputs):  # noqa: F811
    return build(dataclasses.replace(alone, generative=dataclasses.replace(generative, uses=inputs)))


def test_every_figure_is_on_the_page_with_its_words_and_numbers(alone, generative, inputs):  # noqa: F811
    page = paged(alone, generative, inputs)
    elements = Elements(page)
    assert elements.open == []
    sheets = [a for tag, a in elements.found if tag == "img" and a.get("class") == "sheet"]
    assert [a["alt"] for a in sheets] == ["a walk", "an edit", "heatmaps", "imputations"]
    assert all(a["src"].startswith("data:image/png;base64,") for a in sheets)
    text = words(page)
    for said in (
        "A latent in use elbo-r8-s1",
        "s1 to s2",
        "beside it, of conv_vae-r8-s1",
        "1.43",
        "Of 397 voxels of the disc farther than the filter's reach (6 voxels) from its edge, none changed",
        "0.0541 (root mean square, network units)",
        "level 2 60 %, level 1 40 %",
        "ad2 and da2. Correlation with the image's own coefficients: ad2 0.99.",
        "0.462",
    ):
        assert said in text, said
    assert "<b>0.197</b>" in page and "<b>0.462</b>" not in page
    assert '<a href="#uses">' in page


def test_samples_of_the_model_in_use_are_shown_whatever_its_rate(alone, generative, inputs):  # noqa: F811
    used = dataclasses.replace(inputs, facts=FACTS | {"model": "elbo-r4-s1"})
    summary = dict(generative.summary)
    summary["models"] = {name: facts | {"neighbour_ratio": 0.93, "copies": 0.02}
                         for name, facts in summary["models"].items()}  # fmt: skip
    page = paged(alone, dataclasses.replace(generative, summary=summary), used)
    assert "samples of elbo-r4-s1, drawn" in page and "Samples of elbo-r4-s1 above" in page
    assert "is 0.93 of that of a test image; 2 % are nearer" in words(page)
    assert "samples of elbo-r4-s1, drawn" not in build(dataclasses.replace(alone, generative=generative))


def test_what_comes_from_data_is_escaped(alone, generative, inputs):  # noqa: F811
    evil = '<script>alert("x")</script>'
    facts = {name: part | {"alt": evil, "subject": evil, "subjects": [evil, evil]} if isinstance(part, dict) else evil
             for name, part in FACTS.items()}  # fmt: skip
    facts["model"] = "elbo-r8-s1"
    page = paged(alone, generative, dataclasses.replace(inputs, facts=facts))
    assert "<script>alert" not in page and page.count("&lt;script&gt;") >= 6
    assert sum(tag == "script" for tag, _ in Elements(page).found) == 2


def test_missing_pieces_and_other_cases_are_no_obstacle(inputs, tmp_path):
    facts = FACTS | {"beside": None, "edit": FACTS["edit"] | {"changed_deep_inside": 2}}
    facts["heatmap"] = FACTS["heatmap"] | {"kept": [], "correlation": {}}
    facts["imputed"] = FACTS["imputed"] | {"method": "chain"}
    found = {
        entry["title"]: entry["caption"]
        for entry in uses_section(dataclasses.replace(inputs, facts=facts, radiological=False))["entries"]
    }
    assert len(found) == len(LATENT_USES)
    assert "beside" not in found["A walk between two subjects"] and "2 changed" in found["An edit"]
    assert "latent" not in found["Coefficients by level and orientation"]
    assert "da: what changes from top to bottom" in found["Coefficients by level and orientation"]
    assert "Markov chain" in found["Missing pixels filled in"]
    words_of = {"title": "A walk between two subjects", "caption": "A walk needs two."}
    lonely = facts | {"walk": {"skipped": "A walk needs two.", "alt": "A walk needs two."}}
    assert uses_section(dataclasses.replace(inputs, facts=lonely))["entries"][0] == words_of
    deep = uses_section(dataclasses.replace(inputs, facts=facts | {"heatmap": FACTS["heatmap"] | {"dims": 3}}))
    assert "a letter for each axis" in deep["entries"][2]["caption"]
    gone = dataclasses.replace(inputs, figures=dict.fromkeys(LATENT_USES, tmp_path / "gone.png"))
    assert uses_section(gone)["entries"] == []
