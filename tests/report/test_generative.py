"""The report's section on generative models: right numbers, every figure with its own words, nothing unescaped."""

import dataclasses
from base64 import b64decode
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medwvae.generative import table
from medwvae.report.generative import GenerativeInputs, about_models, generative_section, grid
from medwvae.report.page import ReportInputs, build
from tests.generative.test_table import fact, scores
from tests.report.test_report import Elements, history, manifest, words

SYSTEMS = {"elbo": "wavelet", "paper": "wavelet", "conv_vae": "conv_vae", "top_k": "top_k"}
CONDITIONS = {
    "size": [96, 128], "test_images": 64, "test_subjects": 8, "training_images": 2000, "training_subjects": 24,
    "quantisation_top": 1.83, "quantisation_levels": 256, "quantisation_step": 0.007, "draws": 256, "budget": "3 min",
    "features": "scattering J=4",
}  # fmt: skip


@pytest.fixture
def generative(tmp_path):
    rng = np.random.default_rng(0)
    tables, facts, pictures, histories = [], {}, {}, {}
    for k, (system, kind) in enumerate(SYSTEMS.items()):
        for rate, seeds in ((4, (1,)), (8, (1, 2))):
            for seed in seeds if kind != "top_k" else (1,):
                model = f"{system}-r{rate}-s{seed}"
                values = (36 - 2 * k - rate / 2 + rng.normal(0, 1, 8)).tolist()
                tables += [
                    scores(model, system, rate, seed, values),
                    scores(model, system, rate, seed, [v / 10 for v in values], metric="bits", region="whole"),
                ]
                facts[model] = fact(system, rate, seed, kind, parameters=500_000, sample_frechet=float(3 + k))
                pictures[model] = tmp_path / f"{model}.npz"
                names = ("samples", "neighbours") if kind != "top_k" else ()
                arrays: dict[str, Any] = {name: rng.random((9, 12, 10)) for name in names}
                arrays |= {name: rng.random((2, 12, 10)) for name in ("truths", "reconstructions")}
                np.savez(pictures[model], **arrays)
                histories[model] = history("wavelet_vae" if kind == "wavelet" else "unet").assign(**{"s/x": 0.05})
    tables.append(scores("png", "png", np.nan, np.nan, [3.0] * 8, metric="bits", region="whole"))
    facts["png"] = fact("png", None, None, "codec")
    rows = table.summary(pd.concat(tables), facts)
    summary = {"run": "r", "conditions": CONDITIONS, "rows": rows, "models": facts}
    return GenerativeInputs(summary, histories, pictures)


@pytest.fixture
def alone(generative):
    """A study of generative models alone."""
    subjects = [f"s{k}" for k in range(8)]
    columns = ["task", "setting", "method", "kind", "protocol", "subject", "region", "metric", "value", "unit"]
    return ReportInputs(
        run="r",
        title="t",
        metrics=pd.DataFrame(columns=columns),
        manifest=manifest(subjects),
        splits=dict.fromkeys(subjects, "test"),
        histories={},
        volumes={},
        truths={},
        subjects={},
        slice_axis={},
        tuning=pd.DataFrame(columns=["task", "method", "params", "seconds"]),
        settings={},
        protocols={},
        durations={},
        provenance={},
        parameters={},
        generative=generative,
    )


def test_a_study_of_generative_models_alone_has_a_page(alone):
    page = build(alone)
    elements = Elements(page)
    assert elements.open == []
    text = words(page)
    assert "nothing was evaluated" not in text and "Tasks" not in text
    for said in (
        "One latent value for 8 pixels: elbo has the highest PSNR in the head",
        "4 systems, 11 models; latent values per pixel: 1/4, 1/8",
        "256 grey levels over 0 to 1.83",
        "convolutional VAE",
        "2 trainings",
        "lossless codec",
    ):
        assert said in text
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids)) and "generative" in ids


def test_every_picture_has_its_own_words(alone):
    elements = Elements(build(alone))
    said = [a["alt"] for t, a in elements.found if t == "img" and "src" in a]
    said += [a["aria-label"] for t, a in elements.found if t == "svg"]
    assert len(said) == len(set(said)) and all(said)
    # Samples and neighbours of three systems, reconstructions at two rates; PSNR by rate, curves, scales of four.
    assert len(said) == 3 + 3 + 2 + 1 + 1 + 4


def test_the_numbers_are_those_of_the_table(generative):
    shown = generative_section(generative)
    at8 = next(t for t in shown["tables"] if "for 8 pixels" in t["caption"])
    place = [name for name, _ in at8["columns"]].index("PSNR (dB)")
    row = next(row for row in generative.summary["rows"] if (row["system"], row["rate"]) == ("paper", 8))
    cell = next(r for r in at8["rows"] if r["name"] == "paper")["cells"][place]
    entry = row["scores"]["head/psnr"]
    assert cell["mean"] == f"{entry['mean']:.2f}" and cell["interval"] == f"{entry['low']:.2f} to {entry['high']:.2f}"
    assert cell["seeds"] == f"{entry['seeds_low']:.2f} to {entry['seeds_high']:.2f}"
    assert [r["cells"][place]["best"] for r in at8["rows"]] == [True, False, False, False]
    alt = shown["against_rate"].split('aria-label="')[1].split('"')[0]
    assert f"{entry['mean']:.2f} at 1/8" in alt


def test_what_comes_from_data_is_escaped(alone, generative):
    evil = '<script>alert("x")</script>'
    summary = dict(generative.summary)
    summary["conditions"] = CONDITIONS | {"features": evil, "budget": evil}
    summary["rows"] = [row | {"system": evil} if row["system"] == "elbo" else row for row in summary["rows"]]
    page = build(dataclasses.replace(alone, generative=dataclasses.replace(generative, summary=summary)))
    assert "<script>alert" not in page and page.count("&lt;script&gt;") >= 3
    assert sum(tag == "script" for tag, _ in Elements(page).found) == 2


def test_missing_pieces_are_no_obstacle(alone, generative, tmp_path):
    bare = dataclasses.replace(
        generative, histories={}, pictures=dict.fromkeys(generative.pictures, tmp_path / "gone.npz")
    )
    shown = generative_section(bare)
    assert shown["curves"] is None and shown["scales"] == {} and shown["samples"] == []
    assert "One latent value" in words(build(dataclasses.replace(alone, generative=bare)))
    assert about_models(bare.summary).startswith("4 systems")


def test_a_grid_holds_all_images_in_one_window():
    images = np.stack([np.full((6, 5), level, np.float32) for level in (-1.0, 0.6, 1.2, 9.0, np.nan)])
    address = grid(images, 3, 10_000)
    assert address.startswith("data:image/png;base64,")
    picture = np.asarray(Image.open(BytesIO(b64decode(address.split(",")[1]))))
    assert picture.shape == (2 * 8 - 2, 3 * 7 - 2)
    assert [int(picture[0, 7 * k]) for k in range(3)] == [0, 128, 255]
    assert int(picture[8, 0]) == 255 and int(picture[8, 7]) == 0 and int(picture[8, 14]) == 0
    small = grid(np.ones((4, 100, 100), np.float32), 2, 10_000)
    assert np.asarray(Image.open(BytesIO(b64decode(small.split(",")[1])))).size <= 10_500
