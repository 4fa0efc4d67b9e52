"""Model card and data sheet: the run's own numbers, its failures and limits, and nothing that acts as markup."""

import dataclasses
import re
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt

from medwvae.report.card import CardInputs, data_sheet, model_card
from medwvae.report.document import Document, Section, Table, as_html, as_markdown
from medwvae.report.page import ReportInputs
from medwvae.report.tables import summary
from medwvae.report.text import markdown, one_line
from medwvae.statistics import mean_interval
from tests.report.test_compare import EVIL
from tests.report.test_report import Elements, history, manifest, table

HOSTILE = [
    EVIL, "![x](javascript:alert(1))", "<img src=x onerror=alert(1)>", "a | b | c", "# title", "1. item", "- item",
    "`code` *b* _i_ ~~s~~ [l](http://a.b)", "&lt;b&gt;", "\\<b>", "http://evil.example/x", "x" * 10_000, "---",
    "\x1b[31m",
]  # fmt: skip

rendered = MarkdownIt("commonmark").enable("table").render  # lets HTML through


def card_inputs(metrics=None, people=None):
    metrics = table(tasks=("denoise",), subjects=8) if metrics is None else metrics
    subjects = sorted(metrics["subject"].unique())
    people = manifest([*subjects, "sub-90", "sub-91"]) if people is None else people
    study = ReportInputs(
        run="demo", title="A study", metrics=metrics, manifest=people,
        splits=dict.fromkeys(subjects, "test") | {"sub-90": "train", "sub-91": "val"},
        histories={("denoise", "wavelet_vae"): history("wavelet_vae")}, volumes={}, truths={}, subjects={},
        slice_axis={}, tuning=pd.DataFrame(), settings={"denoise": "Rician noise"}, protocols={},
        durations={}, provenance={"versions": {"medwvae": "0.1", "revision": "abc", "torch": "2"},
                                  "digests": {"train": "d1"}},
        parameters={("denoise", "wavelet_vae"): 480_000},
    )  # fmt: skip
    volumes = metrics.assign(volume=metrics["subject"] + "_t1w", contrast="t1w")
    people = people.assign(sex=["F", "M"] * (len(people) // 2) + ["F"] * (len(people) % 2))
    found = summary(metrics, volumes=volumes, manifest=people)
    return CardInputs(
        study, found, {"models/denoise/wavelet_vae/model.pt": "0" * 64, "manifest.csv": "f" * 64}, "Tests."
    )


@pytest.fixture(scope="module")
def given():
    return card_inputs()


def test_the_card_holds_the_runs_own_numbers(given):
    text = as_markdown(model_card(given))
    psnr = given.study.metrics.query("method == 'wavelet_vae' and region == 'head' and metric == 'psnr'")
    own = mean_interval(psnr.set_index("subject")["value"].sort_index())
    assert f"| PSNR (dB) ↑ | head | {own.mean:.2f} | {own.low:.2f} to {own.high:.2f} | {own.median:.2f} | 8 |" in text
    worst = psnr.set_index("subject")["value"].nsmallest(3)
    rows = [line.split(" | ")[0].strip("| ") for line in text.splitlines() if line.startswith("| sub")]
    assert rows == list(worst.index)
    for said in ("480,000 parameters", "Not a medical device", "Apache", "0" * 64, "not stated", "d1", "beats", "Sex"):
        assert said in text
    assert "too narrow" not in text  # of 8 subjects they are not
    rival = given.summary["tasks"]["denoise"]["regions"]["head"]["psnr"]["methods"]["unet"]
    gap, low, high = (f"{rival[key]:+.2f}" for key in ("difference", "difference_low", "difference_high"))
    assert f"| U-Net (MONAI): {rival['mean']:.2f} | \\{gap} \\[{low} to {high}\\] | p = .031 |" in text


def test_the_sheet_says_what_was_refused_and_where_everyone_is(given):
    text = as_markdown(data_sheet(dataclasses.replace(given, data_licence="CC BY-SA 3.0", data_source="IXI")))
    for said in ("IXI", "CC BY-SA 3.0", "a slice is missing", "1 refused",
                 "1 training, 1 validation, 8 test", "Faces are not removed"):  # fmt: skip
        assert said in text
    assert "models/" not in text and "f" * 64 in text


def test_what_the_study_left_out_is_neither_used_nor_refused(given):
    people = given.study.manifest.copy()
    first = people.index[people["status"] == "ok"][0]
    people.loc[first, ["status", "contrast"]] = ["unused", "flair"]
    less = dataclasses.replace(given, study=dataclasses.replace(given.study, manifest=people))
    used = int((people["status"] == "ok").sum())
    sheet, card = as_markdown(data_sheet(less)), as_markdown(model_card(less))
    assert f"{used} images used, 1 usable but not taken into the study, 1 refused." in sheet
    assert "FLAIR" not in sheet + card


@pytest.mark.parametrize(
    ("sites", "limit", "fact"),
    [
        (None, "does not say from which sites images come", "not known"),
        (["site-a"], "All images come from one site", "site-a"),
        (["site-b", "site-a"], None, "site-a, site-b"),
    ],
)
def test_what_is_known_of_sites_is_said(given, sites, limit, fact):
    people = given.study.manifest.copy()
    if sites:
        people["site"] = [sites[k % len(sites)] for k in range(len(people))]
    known = dataclasses.replace(given, study=dataclasses.replace(given.study, manifest=people))
    card, sheet = (re.sub(r"\\", "", as_markdown(document(known))) for document in (model_card, data_sheet))
    assert (limit or "change of scanner") in card if limit else "change of scanner" not in card
    assert f"**Sites**: {fact}" in sheet


def test_a_losing_model_says_so():
    text = as_markdown(model_card(card_inputs(table({"input": 24.0, "tv": 27.0, "unet": 29.0, "wavelet_vae": 28.0}))))
    assert "does better on average" in text and "loses to" in text


def test_settings_of_a_task_share_a_training_and_have_results_of_their_own():
    means = {"input": 24.0, "tv": 27.0, "unet": 29.0, "wavelet_vae": 28.0}
    given = card_inputs(table(means, tasks=("denoise-s3", "denoise-s9")))
    settings = {"denoise-s3": "sigma 3 %", "denoise-s9": "sigma 9 %"}
    given = dataclasses.replace(given, study=dataclasses.replace(given.study, settings=settings))
    text = as_markdown(model_card(given))
    assert text.count("480,000 parameters") == 1
    assert "**Denoising**: sigma 3 % / sigma 9 %, 480,000 parameters, " in text
    for setting in ("s3", "s9"):
        assert text.count(f"*Denoising {setting}*") == 3  # results, subgroups, failure cases
        assert f"Denoising {setting}: U-Net (MONAI) does better on average" in text
    sheet = as_markdown(data_sheet(given))
    assert "sigma 3 %; sigma 9 %" in sheet


@pytest.mark.parametrize(
    ("modality", "task", "said"),
    [
        ("CT", "denoise-s3", "simulations of MR (Denoising)"),
        ("MR", "ct-v30", "simulation of CT from few views"),
        ("CT", "ct", None),
        ("MR", "denoise", None),
    ],
)
def test_an_exercise_on_the_other_modality_is_called_one(modality, task, said):
    metrics = table(tasks=(task,))
    people = manifest([*sorted(metrics["subject"].unique()), "sub-90", "sub-91"]).assign(modality=modality)
    text = re.sub(r"\\", "", as_markdown(model_card(card_inputs(metrics, people))))
    assert (said or "exercise") in text if said else "exercise" not in text


def test_a_study_without_volumes_or_tasks_has_cards_too(given):
    nothing = dataclasses.replace(
        given.study, metrics=given.study.metrics.iloc[:0], manifest=given.study.manifest.iloc[:0], splits={},
        settings={}, histories={}, parameters={},
    )  # fmt: skip
    bare = CardInputs(nothing, {"reference": "wavelet_vae", "tasks": {}}, {}, "Tests.")
    for document in (model_card(bare), data_sheet(bare)):
        assert as_markdown(document).startswith("# ") and Elements(as_html(document)).open == []


@pytest.mark.parametrize("evil", HOSTILE)
def test_hostile_text_is_text_in_both(evil):
    document = Document(
        evil, evil, [Section(evil, [evil], [(evil, evil)], [evil], [Table(["a", "b"], [[evil, "x"]], evil)])]
    )
    page = as_html(document)
    tags = {tag for tag, _ in Elements(page).found}
    assert Elements(page).open == [] and not tags & {"script", "img", "a"}
    text = as_markdown(document)
    assert len(text) < 20_000 and "\u202e" not in text + page
    shown = rendered(text)
    found = Elements(shown)
    allowed = {"h1", "h2", "p", "ul", "li", "strong", "em", "table", "thead", "tbody", "tr", "th", "td"}
    assert {tag for tag, _ in found.found} <= allowed
    assert sum(tag == "td" for tag, _ in found.found) == 2  # a bar does not make a cell
    assert sum(tag in ("h1", "h2") for tag, _ in found.found) == 2 and sum(tag == "li" for tag, _ in found.found) == 2


def test_hostile_data_reaches_no_markup(given):
    people = manifest(["sub-00", "sub-01", "sub-90"])
    people.loc[people["status"] != "ok", "reason"] = EVIL * 300
    people.loc[people["status"] == "ok", "contrast"] = EVIL
    metrics = given.study.metrics.assign(setting=EVIL)
    metrics["subject"] = metrics["subject"].where(metrics["subject"] != "sub-00", EVIL)
    evil = card_inputs(metrics, people)
    evil = dataclasses.replace(evil, intended_use=EVIL, data_licence=EVIL, data_source=EVIL)
    for document in (model_card(evil), data_sheet(evil)):
        page, text = as_html(document), as_markdown(document)
        assert "<script" not in page + text and "\u202e" not in page + text
        assert "&lt;script&gt;" in page and "&lt;script&gt;" in text
        assert not {tag for tag, _ in Elements(rendered(text)).found} & {"script", "img", "a"}


def test_one_line_keeps_words_and_cuts():
    assert one_line("a\n b\tc") == "a b c"
    assert one_line("\U0001f9e0 süß שלום") == "\U0001f9e0 süß שלום"
    assert one_line("\u202eabc") == "\ufffdabc"
    assert len(one_line("x" * 10_000)) == 200 and one_line("x" * 10_000).endswith("…")
    assert one_line("x" * 200) == "x" * 200 and one_line(np.float64(1.5)) == "1.5"
    assert re.sub(r"\\|&#8203;", "", markdown("a*b http://c")) == "a*b http://c"


def test_no_subgroup_of_one_or_two_persons_is_in_the_card(given):
    few = [
        {"variable": "Sex", "group": g, "metric": "PSNR", "n": n, "mean": "30.0", "interval": ""}
        for g, n in (("F", "2"), ("M", "3"))
    ]
    with patch("medwvae.report.card.subgroup_cells", lambda task: few):
        text = as_markdown(model_card(given))
    assert "| Sex | M | PSNR | 3 |" in text and "| Sex | F |" not in text


def test_intervals_and_definitions_have_sections_of_their_own(given):
    text = as_markdown(model_card(given))
    assert "## What the metrics mean" in text and "higher is better" in text
    results = text[text.index("## Results") : text.index("## What the metrics mean")]
    assert "Coverage" not in results.split("## How sure it is")[0]
