"""The report: right numbers, honest words, one safe file; inputs are synthetic."""

import dataclasses
import itertools
import json
import re
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml
from rich.console import Console
from scipy import stats

from medwvae.config import Config
from medwvae.config_io import load
from medwvae.errors import InputError
from medwvae.names import TASKS
from medwvae.report import cases, figures, panels
from medwvae.report.page import MOST_BYTES, ReportInputs, _mark, build, summary
from medwvae.report.tables import main_and_more, render_text_table
from medwvae.report.words import verdict as verdict_in_words
from medwvae.stages import reporting
from medwvae.statistics import mean_interval, paired

KINDS = {
    "input": "input",
    "nlm": "classical",
    "tv": "classical",
    "unet": "network",
    "conv_vae": "network",
    "wavelet_vae": "ours",
}
MEANS = {"input": 24.0, "nlm": 26.0, "tv": 27.0, "unet": 29.0, "conv_vae": 25.0, "wavelet_vae": 30.0}


def table(means=MEANS, subjects=8, tasks=("denoise",), noise=0.1, protocol="demo"):
    """Return metrics in the long format: PSNR around `means`, NMSE and SSIM that follow it."""
    rng, rows = np.random.default_rng(0), []
    for task in tasks:
        for k in range(subjects):
            ease = rng.normal(0, 1.5)
            for method in means:
                psnr = means[method] + ease + rng.normal(0, noise)
                nmse = 10 ** (-psnr / 10)
                for region, metric, value in [
                    (region, *pair)
                    for region in ("whole", "head")
                    for pair in (("ssim", 1 - 10 * nmse), ("nmse", nmse), ("psnr", psnr))
                ]:
                    rows.append(
                        {
                            "run": "demo",
                            "task": task,
                            "setting": "mild",
                            "method": method,
                            "kind": KINDS[method],
                            "protocol": protocol,
                            "subject": f"sub-{k:02d}",
                            "region": region,
                            "metric": metric,
                            "value": value,
                            "unit": "dB" if metric == "psnr" else "",
                        }
                    )
    return pd.DataFrame(rows)


def manifest(subjects):
    row = {
        "session": "",
        "series": "",
        "modality": "MR",
        "contrast": "t1w",
        "shape": "24x28x20",
        "spacing": "1.000x1.000x2.000",
    }
    ok = [
        dict(row, volume=f"{s}_t1w", subject=s, age=40.0, sex="F", status="ok", reason="", file="x") for s in subjects
    ]
    no = dict.fromkeys(ok[0], "") | {
        "volume": "img-1",
        "age": np.nan,
        "status": "refused",
        "reason": "a slice is missing",
    }
    return pd.DataFrame([*ok, no])


def history(network):
    steps = np.arange(10, 60, 10)
    frame = pd.DataFrame({"step": steps, "seconds": steps * 0.5, "loss": 1 / steps, "lr": 1e-3, "images_per_s": 40.0})
    frame["val_psnr"] = [np.nan, 25.0, np.nan, 27.0, 28.0]
    if network == "wavelet_vae":
        for band in ("aa2", "ad2", "da2", "dd2", "ad1", "da1", "dd1"):
            frame[f"s/{band}"] = 0.1 / steps
    return frame


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return study(tmp_path_factory.mktemp("report"))


def study(folder):
    """Return the inputs of a report on eight test subjects and two tasks, whose volumes lie in a folder."""
    rng = np.random.default_rng(1)
    metrics = table(tasks=("denoise", "superres"))
    subjects = sorted(metrics["subject"].unique())
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    truths: dict[str, Path] = {}
    volumes: dict[str, dict[str, dict[str, Path]]] = {}
    for subject in subjects:
        grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in (24, 28, 20)), indexing="ij"))
        truth = (1000 * ((grid**2).sum(0) < 0.7) * (1 + 0.3 * np.sin(9 * grid[0]))).astype(np.float32)
        truths[f"{subject}_t1w"] = folder / f"{subject}.nii"
        nib.save(nib.Nifti1Image(truth, affine), truths[f"{subject}_t1w"])
        for method in MEANS:
            path = folder / f"{subject}_{method}.nii.gz"
            noisy = truth + rng.normal(0, 1000 * 10 ** (-MEANS[method] / 20), truth.shape).astype(np.float32)
            nib.save(nib.Nifti1Image(noisy, affine), path)
            for task in ("denoise", "superres"):
                volumes.setdefault(task, {}).setdefault(method, {})[f"{subject}_t1w"] = path
    return ReportInputs(
        run="demo",
        title="A study",
        metrics=metrics,
        manifest=manifest([*subjects, "sub-90", "sub-91"]),
        splits=dict.fromkeys(subjects, "test") | {"sub-90": "train", "sub-91": "val"},
        histories={("denoise", n): history(n) for n in ("wavelet_vae", "unet", "conv_vae")},
        volumes=volumes,
        truths=truths,
        subjects={volume: volume.removesuffix("_t1w") for volume in truths},
        slice_axis=dict.fromkeys(truths, 2),
        tuning=pd.DataFrame([{"task": "denoise", "method": "nlm", "params": "h=0.1", "seconds": 3.0}]),
        settings={"denoise": "Rician noise"},
        protocols={"demo": "volume maximum, Gaussian 11"},
        durations={"train": 120.0, "report": 2.0},
        provenance={"config": {"train": {"steps": 50}}, "seeds": {"train": 0}, "machine": "2 cores"},
        parameters={("denoise", "unet"): 480_000},
    )


@pytest.fixture(scope="module")
def page(inputs):
    return build(inputs)


class Elements(HTMLParser):
    """Every element of a page, and whether all that was opened was closed."""

    VOID = frozenset({"meta", "img", "link", "br", "hr", "input"})

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.text = [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if self.open and self.open[-1] not in ("style", "script") else ""


def words(text):
    return re.sub(r"\s+", " ", Elements(text).text.replace("\u2060", ""))


def block(result, task="denoise", region="head", metric="psnr"):
    return result["tasks"][task]["regions"][region][metric]


def test_summary_holds_the_means_intervals_and_tests_of_the_values():
    metrics = table(noise=1.0)
    found = block(summary(metrics))["methods"]
    psnr = metrics[(metrics["region"] == "head") & (metrics["metric"] == "psnr")]
    wide = psnr.pivot(index="subject", columns="method", values="value")
    interval = mean_interval(wide["nlm"])
    assert (found["nlm"]["mean"], found["nlm"]["low"], found["nlm"]["high"]) == (
        interval.mean,
        interval.low,
        interval.high,
    )
    raw = {m: stats.wilcoxon(wide["wavelet_vae"] - wide[m]).pvalue for m in ("nlm", "tv", "unet", "conv_vae")}
    assert {m: e["p"] for m, e in found.items() if "p" in e} == pytest.approx(raw)
    assert found["unet"]["difference"] == pytest.approx((wide["wavelet_vae"] - wide["unet"]).mean())
    assert all(raw[m] <= found[m]["p_holm"] <= min(1, 4 * raw[m]) + 1e-12 for m in raw)


def test_the_subject_is_the_unit():
    metrics = table()
    again = metrics.assign(value=metrics["value"] + 2.0)
    first = metrics["subject"] == "sub-00"
    doubled = pd.concat([metrics, metrics[first], metrics[first]])  # more volumes of one subject change nothing
    assert summary(doubled) == summary(metrics)
    shifted = block(summary(pd.concat([metrics, again])))["methods"]["tv"]
    assert shifted["mean"] == pytest.approx(block(summary(metrics))["methods"]["tv"]["mean"] + 1.0)


def test_summary_is_json_without_infinity():
    text = json.dumps(summary(table(MEANS | {"nlm": np.inf})), allow_nan=False)
    assert json.loads(text)["tasks"]["denoise"]["regions"]["head"]["psnr"]["methods"]["nlm"]["mean"] is None


def test_winning_means_the_same_in_every_metric():
    result = summary(table())
    for metric in ("psnr", "ssim", "nmse"):
        found = block(result, metric=metric)
        assert found["best"] == "wavelet_vae" and found["verdict"]["best_rival"] == "unet"
        assert found["verdict"]["outcome"] == "won" and found["verdict"]["beats_every_classical"]
        assert (found["verdict"]["difference"] < 0) == (metric == "nmse")


@pytest.mark.parametrize(
    ("ours", "outcome", "said"),
    [
        (30.0, "won", "It beats the best rival, U-Net (MONAI), by"),
        (28.0, "lost", "It loses to U-Net (MONAI) by"),
        (26.5, "lost", "Even a classical method does better."),
        (23.0, "lost", "It does not even improve on its own input."),
    ],
)
def test_verdict_says_who_won(inputs, ours, outcome, said):
    metrics = table(MEANS | {"wavelet_vae": ours})
    verdict = block(summary(metrics))["verdict"]
    assert verdict["outcome"] == outcome and verdict["beats_every_classical"] == (ours > 27)
    text = words(build(dataclasses.replace(inputs, metrics=metrics, volumes={})))
    assert said in text
    assert ("It loses to" in text) == (outcome == "lost")


def test_four_subjects_prove_nothing_and_the_report_says_so(inputs):
    metrics = table(subjects=4)
    verdict = block(summary(metrics))["verdict"]
    assert verdict["outcome"] == "ahead" and verdict["p"] == 0.125 and verdict["p_holm_smallest"] == 0.5
    text = words(build(dataclasses.replace(inputs, metrics=metrics, volumes={})))
    assert (
        "This proves nothing yet (p = .500): with 4 subjects and 4 rivals the test cannot give a p below .500" in text
    )
    assert "no single difference, however large, can fall below .05" in text


def test_being_ahead_of_all_rivals_at_once_needs_no_adjustment(inputs):
    # Seven subjects: p = 2/2^7 = .0156 of each rival, .0625 after Holm for four.
    metrics = table(subjects=7)
    verdict = block(summary(metrics))["verdict"]
    assert verdict["p_holm"] == 0.0625 and verdict["p_every"] == 0.015625 and verdict["outcome"] == "won"
    text = words(build(dataclasses.replace(inputs, metrics=metrics, volumes={})))
    assert "of all 4 rivals is unlikely to be chance (p = .016, the largest of the single tests; p = .062 after" in text
    assert "Being ahead of all rivals at once needs no adjustment: the largest of the single tests has p = .016" in text
    # Behind one of them there is no such claim, and to lose to one takes Holm's p.
    behind = block(summary(table(MEANS | {"wavelet_vae": 28.0}, subjects=7)))["verdict"]
    assert behind["p_every"] is None and behind["outcome"] == "behind"


def test_another_network_can_be_the_reference(inputs):
    metrics = table()
    ours, theirs = (block(summary(metrics, reference)) for reference in ("wavelet_vae", "unet"))
    tested = {method for method, entry in theirs["methods"].items() if "p" in entry}
    assert tested == set(ours["methods"]) - {"input", "unet"}
    assert theirs["verdict"]["best_rival"] == "wavelet_vae"
    there, back = theirs["methods"]["wavelet_vae"], ours["methods"]["unet"]
    assert there["difference"] == pytest.approx(-back["difference"]) and there["p"] == back["p"]
    said = words(build(dataclasses.replace(inputs, metrics=metrics, reference="unet")))
    assert "U-Net (MONAI) reached" in said


def test_settings_and_protocols_are_never_averaged():
    mixed = pd.concat([table(), table(protocol="other", noise=0.3)])
    result = summary(mixed)
    assert len(result["tasks"]) == 2
    assert {task["protocol"] for task in result["tasks"].values()} == {"demo", "other"}


def test_settings_of_a_task_are_sections_of_their_own_beside_each_other(inputs):
    problems = ("denoise-s9", "superres", "denoise-s3")
    metrics = table({"input": 24.0, "unet": 29.0, "wavelet_vae": 30.0}, subjects=3, tasks=problems)
    assert list(summary(metrics)["tasks"]) == ["superres", "denoise-s9", "denoise-s3"]
    settings = {"denoise-s9": "sigma 9 %", "denoise-s3": "sigma 3 %"}
    text = build(dataclasses.replace(inputs, metrics=metrics, volumes={}, settings=settings))
    elements = Elements(text)
    assert {"superres", "denoise-s9", "denoise-s3"} <= {a["id"] for _, a in elements.found if "id" in a}
    for said in ("Denoising s9", "Denoising s3", "Denoising: sigma 9 % / sigma 3 %", "One training for all settings"):
        assert said in words(text)
    # Two strip plots of each section, and the curves of the one training once.
    assert sum(tag == "svg" for tag, _ in elements.found) == 3 + 2


def test_metrics_without_a_column_are_refused():
    with pytest.raises(InputError, match="protocol"):
        summary(table().drop(columns="protocol"))


def test_terminal_table_shows_every_method_and_the_verdict():
    screen = StringIO()
    console = Console(file=screen, width=160)
    console.print(render_text_table(summary(table(protocol="[red]odd[/red]"))))
    text = screen.getvalue()
    for name in ("Wavelet-VAE (ours)", "U-Net (MONAI)", "NLM", "[red]odd[/red]", "It beats the best rival"):
        assert name in text


def test_page_loads_nothing_and_names_every_picture(page):
    elements = Elements(page)
    assert elements.open == []
    assert not re.search(r"https?:|@import|url\((?!#)", re.sub(r"data:image/png;base64,[\w+/=]+", "", page))
    for tag, attributes in elements.found:
        assert tag not in ("link", "iframe", "object") and not (tag == "script" and "src" in attributes)
        if tag == "img" and attributes.get("src") is not None:
            assert attributes["src"].startswith("data:image/png;base64,") and attributes["alt"]
        if tag == "svg":
            assert attributes["role"] == "img" and attributes["aria-label"]
    pictures = [a for t, a in elements.found if t == "img" and "src" in a]
    assert len(pictures) == 2 * 2 * (3 * (len(MEANS) + 1) - 1)  # tasks, subjects, rows and columns
    assert sum(tag == "svg" for tag, _ in elements.found) == 4  # two strip plots, curves, noise scales
    assert len(page) < 8e6


def test_every_reference_within_the_page_has_one_target(page):
    elements = Elements(page)
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = re.findall(r'href="#([^"]+)"', page) + re.findall(r"url\(#([^)]+)\)", page)
    assert targets and set(targets) <= set(ids)


def test_what_comes_from_data_is_escaped(inputs):
    evil = '<script>alert("x")</script>'
    rows = inputs.manifest.copy()
    rows.loc[rows["status"] != "ok", ["reason", "volume"]] = evil
    names = dict.fromkeys(["sub-00"], evil)
    metrics = inputs.metrics.replace({"subject": names}).replace({"setting": {"mild": evil}, "method": {"tv": evil}})
    text = build(
        dataclasses.replace(
            inputs,
            title=evil,
            run=evil,
            metrics=metrics,
            manifest=rows,
            subjects=inputs.subjects | {"sub-00_t1w": evil},
            settings={"denoise": evil},
            protocols={evil: evil},
            provenance={evil: {evil: evil}},
            tuning=inputs.tuning.assign(params=evil),
            histories={("denoise", evil): history("unet")},
            figures_per_task=8,
        )
    )
    assert "<script>alert" not in text and text.count("&lt;script&gt;") >= 10
    scripts = [attributes for tag, attributes in Elements(text).found if tag == "script"]
    assert sum("type" not in attributes for attributes in scripts) == 2  # the page's own


def test_whole_volumes_are_in_the_page_unless_they_are_not_wanted(inputs):
    def held(**changes):
        elements = Elements(build(dataclasses.replace(inputs, **changes))).found
        links = [a["href"] for tag, a in elements if tag == "a" and a["href"].endswith("-volume")]
        return sum("data-volume" in attributes for _, attributes in elements), len(links)

    volumes, links = held()
    assert volumes > 2 and links == 2  # tasks
    assert held(viewer=False) == (0, 0)


def test_the_budget_runs_from_the_shortest_to_the_longest_training(inputs):
    slow, fast = (history("unet").assign(seconds=lambda h, n=n: h["step"] * n) for n in (2.26, 1.08))
    text = build(dataclasses.replace(inputs, histories={("denoise", "unet"): slow, ("denoise", "wavelet_vae"): fast}))
    assert "54 s to 1 min 53 s of training per network" in text


def test_missing_pieces_are_no_obstacle(inputs):
    bare = dataclasses.replace(
        inputs,
        metrics=table({"input": 24.0, "wavelet_vae": 30.0}, subjects=1),
        histories={("denoise", "wavelet_vae"): history("unet").assign(val_psnr=np.nan)},
        volumes={},
        tuning=inputs.tuning.iloc[:0],
        settings={},
        protocols={},
        durations={},
        provenance={},
        parameters={},
        manifest=inputs.manifest[inputs.manifest["status"] == "ok"].assign(age=np.nan, sex=""),
    )
    text = words(build(bare))
    for said in ("There is no rival", "no interval: 1 subject", "No image was refused", "not known", "mild"):
        assert said in text
    assert "was not run" in words(build(dataclasses.replace(bare, metrics=table({"nlm": 26.0, "unet": 27.0}))))
    assert "nothing was evaluated" in words(build(dataclasses.replace(bare, metrics=table().iloc[:0], histories={})))


def test_a_restored_volume_that_is_missing_or_off_grid_says_so(inputs, tmp_path):
    odd = tmp_path / "odd.nii"
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4)), odd)
    gone = dict.fromkeys(inputs.truths, tmp_path / "gone.nii")
    volumes = {"denoise": inputs.volumes["denoise"] | {"nlm": gone, "tv": dict.fromkeys(inputs.truths, odd)}}
    text = words(build(dataclasses.replace(inputs, volumes=volumes)))
    assert "no image" in text and "other grid" in text


def test_worst_subject_comes_first_then_the_median(inputs, page):
    psnr = inputs.metrics.query(
        "task == 'denoise' and region == 'head' and metric == 'psnr' and method == 'wavelet_vae'"
    )
    ranked = psnr.sort_values("value")["subject"].tolist()
    text = words(page)
    assert text.index(f"Worst subject {ranked[0]}") < text.index(f"Median subject {ranked[4]}")
    assert f"Worst case of Wavelet-VAE (ours): {ranked[0]} with" in text


def test_a_mean_over_a_subjects_volumes_is_called_one(inputs, page):
    assert "PSNR in the head, of this subject's volume, not of this slice" in words(page)
    twice = {name.replace("_t1w", "_t2w"): path for name, path in inputs.truths.items()}
    subjects = inputs.subjects | {name: name.removesuffix("_t2w") for name in twice}
    text = words(build(dataclasses.replace(inputs, truths=inputs.truths | twice, subjects=subjects)))
    assert "PSNR in the head, mean over this subject's 2 volumes, not of this slice" in text
    assert "of this subject's volume," not in text


def test_tasks_come_in_their_order_and_jobs_add_up(page):
    tasks = ("recon", "denoise", "superres")
    assert list(summary(table(tasks=tasks, subjects=3))["tasks"]) == [task for task in TASKS if task in tasks]
    assert "2 min 02 s, sum over jobs (several run at once)" in words(page)


def test_display_is_radiological():
    volume = np.zeros((3, 4), np.float32)  # axes right, anterior
    volume[2, 3] = 1.0  # the patient's right, anterior
    shown = panels.radiological(volume)
    assert shown.shape == (4, 3) and shown[0, 0] == 1.0  # top left


def test_error_map_of_a_perfect_restoration_is_black(inputs):
    name, truth = next(iter(inputs.truths.items()))
    noisy = inputs.volumes["denoise"]["input"][name]
    panel = panels.panel(truth, {"input": noisy, "perfect": truth}, 2, None, 320)
    tiles = {tile.method: tile for tile in panel.tiles}
    assert tiles["perfect"].image == tiles["truth"].image and tiles["truth"].error == ""
    assert tiles["perfect"].error != tiles["input"].error and panel.ratio == pytest.approx(24 / 28)


def with_more(metrics):
    """Return the metrics with edge sharpness beside them: ours is nearest to 1, `tv` above it."""
    rows = metrics[(metrics["metric"] == "psnr")].copy()
    target = {"wavelet_vae": 0.98, "tv": 1.3, "unet": 0.8}
    rows["value"] = rows["method"].map(target).fillna(0.5) + 0.001 * (rows["value"] % 1)
    return pd.concat([metrics, rows.assign(metric="edge_sharpness", unit="")], ignore_index=True)


def test_more_metrics_follow_in_a_table_of_their_own_and_the_nearest_wins(inputs):
    metrics = with_more(table())
    result = summary(metrics)
    sharp = block(result, metric="edge_sharpness")
    assert sharp["best"] == "wavelet_vae" and sharp["better"] == "nearest"
    assert sharp["verdict"]["outcome"] == "won" and sharp["methods"]["tv"]["difference"] < 0
    main, more = main_and_more(result["tasks"]["denoise"])
    assert set(main["regions"]["head"]) == {"psnr", "ssim", "nmse"} and set(more["regions"]["head"]) == {
        "edge_sharpness"
    }
    text = words(build(dataclasses.replace(inputs, metrics=metrics, volumes={})))
    assert "More metrics" in text and "Slope of edges relative" in text and "What the metrics mean" in text
    assert 'aria-label="1 is best"' in build(dataclasses.replace(inputs, metrics=metrics, volumes={}))


def test_effect_sizes_and_subjects_needed_are_those_of_the_pairs(inputs):
    metrics = table(noise=1.0)
    psnr = metrics[(metrics["region"] == "head") & (metrics["metric"] == "psnr")]
    wide = psnr.pivot(index="subject", columns="method", values="value")
    expected = paired(wide["wavelet_vae"], wide["unet"])
    found = block(summary(metrics))["methods"]["unet"]
    assert (found["rank_biserial"], found["dz"], found["needed"]) == (
        expected.rank_biserial, pytest.approx(expected.dz), expected.needed,
    )  # fmt: skip
    text = words(build(dataclasses.replace(inputs, metrics=metrics, volumes={})))
    assert "Subjects needed" in text and f"{expected.rank_biserial:+.2f}" in text


def test_subgroups_are_in_the_page_and_in_the_summary(inputs):
    metrics = table()
    people = manifest(sorted(metrics["subject"].unique()))
    people["sex"] = ["F", "M"] * (len(people) // 2) + ["F"] * (len(people) % 2)
    people["site"] = "<b>Ost</b>"
    people.loc[:3, "site"] = "West"
    volumes = metrics.assign(volume=metrics["subject"] + "_t1w", contrast="t1w")
    result = summary(metrics, volumes=volumes, manifest=people)
    rows = result["tasks"]["denoise"]["subgroups"]
    assert {(row["variable"], row["group"]) for row in rows} >= {("sex", "F"), ("sex", "M"), ("site", "West")}
    women = next(row for row in rows if row["group"] == "F" and row["metric"] == "psnr")
    names = set(people[people["sex"] == "F"]["subject"])
    own = metrics.query("method == 'wavelet_vae' and region == 'head' and metric == 'psnr'")
    assert women["mean"] == pytest.approx(own[own["subject"].isin(names)]["value"].mean()) and women["rival"] == "unet"
    page = build(dataclasses.replace(inputs, metrics=metrics, volume_scores=volumes, manifest=people, volumes={}))
    assert "<b>Ost" not in page and "&lt;b&gt;Ost" in page and "Subgroups" in words(page)
    json.dumps(result, allow_nan=False)


def against_unet(metrics, differences):
    """Return the metrics with our PSNR that of the U-Net plus a difference for each subject."""
    wide = metrics[metrics["method"] == "unet"].set_index(["subject", "region", "metric"])["value"]
    more = dict(zip(sorted(metrics["subject"].unique()), differences, strict=True))
    found = metrics.copy()
    mine = (found["method"] == "wavelet_vae") & (found["metric"] == "psnr")
    keys = zip(found.loc[mine, "subject"], found.loc[mine, "region"], found.loc[mine, "metric"], strict=True)
    found.loc[mine, "value"] = [wide[key] + more[key[0]] for key in keys]
    return found


def test_a_mean_that_the_ranks_speak_against_is_not_certain(inputs):
    metrics = against_unet(table(subjects=25), [3.0] * 3 + [-0.1] * 22)
    found = block(summary(metrics))["verdict"]
    assert found["best_rival"] == "unet" and found["difference"] == pytest.approx(0.272)
    assert found["p_holm"] < 0.05 and found["rank_biserial"] < 0 and not found["agree"]
    assert found["outcome"] == "ahead" and found["p_every"] is None
    text = words(build(dataclasses.replace(inputs, metrics=metrics, volumes={})))
    assert "But mean and ranks disagree (rank-biserial −0.56" in text and "better in 3 of 25 subjects" in text
    other = block(summary(against_unet(table(subjects=25), [-3.0] * 3 + [0.1] * 22)))["verdict"]
    assert other["outcome"] == "behind" and not other["agree"]


@pytest.mark.parametrize(
    ("difference", "low", "high", "said"),
    [
        (0.08, -0.84, 0.31, "0.08 dB [−0.84 to 0.31]"),
        (-0.08, -0.31, 0.84, "0.08 dB [−0.84 to 0.31]"),
        (0.5, 0.2, 0.7, "0.50 dB [0.20 to 0.70]"),
        (-0.5, -0.7, -0.2, "0.50 dB [0.20 to 0.70]"),
        (0.5, None, None, "0.50 dB, "),
    ],
)
def test_the_interval_of_a_sentence_lies_as_its_difference(difference, low, high, said):
    result = summary(table())["tasks"]["denoise"]
    found = result["regions"]["head"]["psnr"]["verdict"]
    outcome = "ahead" if difference > 0 else "behind"
    found |= {"difference": difference, "low": low, "high": high, "outcome": outcome, "p_holm": 0.4}
    assert f"by {said}" in verdict_in_words(result, "wavelet_vae", "head", "psnr")


def exact(metrics, method, subjects):
    """Return the metrics with an infinite PSNR of one method in these subjects."""
    these = (metrics["method"] == method) & (metrics["metric"] == "psnr") & metrics["subject"].isin(subjects)
    return metrics.assign(value=metrics["value"].where(~these, np.inf))


@pytest.mark.parametrize("method", ["wavelet_vae", "nlm"])
@pytest.mark.parametrize("many", [2, 8])
def test_an_infinite_score_cannot_be_compared_and_the_report_says_whose(inputs, method, many):
    everyone = sorted(table()["subject"].unique())
    metrics = exact(table(), method, everyone[:many])
    found = block(summary(metrics))
    assert found["verdict"]["outcome"] == "not comparable" and "p_every" not in found["verdict"]
    assert found["best"] == method and found["methods"][method]["infinite"] == many
    page = build(dataclasses.replace(inputs, metrics=metrics, volumes={}))
    text = words(page)
    name = {"nlm": "NLM", "wavelet_vae": "Wavelet-VAE (ours)"}[method]
    assert f"{name} is exact (infinite) in {many} of 8 subjects" in text and "not comparable" in text
    assert "It is not comparable with" in text and "There is no rival" not in text
    assert not re.search(r"[a-z]\.[A-Z]", text.partition("Bold: best mean")[2][:700])
    assert ("<b>exact</b>" in page, "<b>∞</b>" in page) == (many == 8, many == 2)


def test_nothing_is_claimed_of_all_rivals_if_one_was_not_tested():
    metrics = table(subjects=6)
    tv = metrics["method"] == "tv"
    assert block(summary(metrics[~tv]))["verdict"]["outcome"] == "won"  # p = .031 of every rival
    strangers = metrics.assign(subject=metrics["subject"].mask(tv, metrics["subject"] + "x"))
    found = block(summary(strangers))["verdict"]
    assert found["p_every"] is None and found["outcome"] == "ahead"


def test_few_subjects_are_said_to_make_narrow_intervals(inputs):
    def said(subjects):
        metrics = table(subjects=subjects, tasks=("denoise", "superres"))
        text = words(build(dataclasses.replace(inputs, metrics=metrics, volumes={})))
        return text.count(f"{subjects} test subjects: bootstrap intervals of so few are too narrow")

    assert said(7) == 2 and said(8) == 0


@pytest.mark.parametrize("subjects", [1, 2])
def test_one_or_two_subjects_have_no_interval(inputs, subjects):
    text = words(build(dataclasses.replace(inputs, metrics=table(subjects=subjects), volumes={})))
    assert "no interval and no test; the numbers describe" in text and "of 100 studies" not in text


@pytest.mark.parametrize(("values", "worst"), [((1.02, 1.0, 0.4), "sub-02"), ((1.02, 1.9, 0.4), "sub-01")])
def test_of_a_metric_that_is_best_near_a_target_the_farthest_is_the_worst(inputs, values, worst):
    rows = table(subjects=3)[lambda t: t["metric"] == "psnr"]
    place = rows["subject"].str[-1].astype(int)
    metrics = rows.assign(metric="edge_sharpness", unit="", value=place.map(dict(enumerate(values))))
    metrics.loc[metrics["method"] == "input", "value"] = 1.1
    text = words(build(dataclasses.replace(inputs, metrics=metrics, volumes={})))
    assert f"Worst case of Wavelet-VAE (ours): {worst} with" in text
    own = [f"sub-0{k}" for k, value in enumerate(values) if abs(value - 1) > 0.1]
    assert f"it is worse than its own input: {' and '.join(own)}." in text


def test_what_lies_on_both_sides_of_a_target_is_not_at_it(inputs):
    """Distances of the volumes, where the rows have them, and not that of their mean."""
    rows = table()[lambda t: t["metric"] == "psnr"]
    close = rows["method"] == "unet"
    noise = pd.Series(np.random.default_rng(0).normal(0, 0.1, len(rows)), rows.index)
    bias = rows.assign(metric="hu_bias_soft", unit="HU", value=noise, distance=noise.abs() + 20.0 * ~close)
    metrics = pd.concat([table(), bias])
    found = block(summary(metrics), metric="hu_bias_soft")
    assert found["best"] == "unet" and found["verdict"]["difference"] == pytest.approx(20, abs=0.2)
    assert found["methods"]["wavelet_vae"]["mean"] == pytest.approx(0, abs=0.2)
    text = words(build(dataclasses.replace(inputs, metrics=metrics, volumes={})))
    assert "is compared by its distance to it" in text
    assert "compared by its distance" not in words(build(dataclasses.replace(inputs, volumes={})))


def configured(inputs, subjects):
    configuration = {"run": "demo", "input": "(a path of the user's)", "ingest": {"subjects": subjects}}
    return dataclasses.replace(inputs, volumes={}, provenance={"configuration": configuration})


def test_how_to_reproduce_says_that_pseudonyms_need_their_key(inputs):
    key = "results/demo/private/key"
    assert key in words(build(configured(inputs, "pseudonym")))
    assert key not in words(build(configured(inputs, "keep")))


def test_the_saved_configuration_loads_and_names_no_folder_of_results(tmp_path):
    own = load(overrides={"results": "/data/of/mine", "run": "mine", "input": "/data/in"})
    saved = reporting._without_paths(own)
    assert "results" not in saved and "/data" not in json.dumps(saved)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(saved, sort_keys=False), encoding="utf-8")
    assert load([tmp_path / "study.yaml"]).root == Path("results/mine")


def test_signs_have_a_role_and_rows_a_header(inputs):
    metrics = with_more(table())
    page = build(dataclasses.replace(inputs, metrics=metrics, volumes={}))
    elements = Elements(page).found
    assert all(a.get("role") == "img" for tag, a in elements if tag == "span" and "aria-label" in a)
    assert any(tag == "span" and a.get("aria-label") == "better, certain" for tag, a in elements)
    tables = re.findall(r"<tbody>(.*?)</tbody>", page, re.DOTALL)
    first = [cell for table in tables for cell in re.findall(r"<tr[^>]*>\s*(<[^>]*>)", table)]
    assert len(tables) > 5 and set(first) == {'<th scope="row">'}


def lightness(colour):
    """Return the relative luminance of '#rrggbb' (WCAG 2.2)."""
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_colours_of_data_stand_out_three_to_one_in_both_themes():
    style = Path(panels.__file__).with_name("style.css").read_text(encoding="utf-8")
    themes = [dict(re.findall(r"--(\w+): (#[0-9a-f]{3,6})", part)) for part in style.split("@media")[:2]]
    for theme in themes:
        page = lightness(theme["page"])
        for name in set(figures.VARIABLES) - {"rule", "thread"}:  # the only ones that carry no value by themselves
            low, high = sorted((page, lightness(theme[name])))
            assert (high + 0.05) / (low + 0.05) >= 3, name
    assert re.search(r"prefers-reduced-motion: no-preference\) \{ html \{ scroll-behavior: smooth", style)
    assert style.count("smooth") == 1


def lines_of(monkeypatch, draw, *given):
    """Return (colour, dash, marker) of every line with a name that a plot would show."""
    shown: list[tuple[object, ...]] = []

    def keep(figure, alt):
        lines = [line for line in figure.axes[0].get_lines() if not str(line.get_label()).startswith("_")]
        shown.extend((one.get_color(), str(vars(one)["_unscaled_dash_pattern"]), one.get_marker()) for one in lines)
        return alt

    monkeypatch.setattr(figures, "svg", keep)
    draw(*given)
    return shown


def test_curves_differ_by_more_than_their_colour(monkeypatch):
    networks = ("wavelet_vae", "unet", "conv_vae", "dncnn")
    found = lines_of(monkeypatch, figures.training_curves, "Denoising", {n: history(n) for n in networks})
    assert len(found) == len({one[1:] for one in found}) == len(networks)


@pytest.mark.parametrize("dims", [2, 3])
def test_every_subband_has_a_line_of_its_own(monkeypatch, dims):
    steps = np.arange(10, 60, 10)
    names = ["".join(letters) for letters in itertools.product("ad", repeat=dims)]
    bands = [f"{names[0]}2", *(f"{name}{level}" for level in (2, 1) for name in names[1:])]
    frame = pd.DataFrame({"step": steps} | {f"s/{band}": 0.1 / steps for band in bands})
    found = lines_of(monkeypatch, figures.noise_scales, "Denoising", frame)
    assert len(found) == len(set(found)) == len(bands)


def test_whoever_has_no_score_is_neither_the_worst_nor_the_best(inputs):
    metrics = inputs.metrics[inputs.metrics["task"] == "denoise"]
    ours = (metrics["method"] == "wavelet_vae") & (metrics["metric"] == "psnr")
    scores = metrics[ours & (metrics["region"] == "head")].set_index("subject")["value"].sort_values()
    task, _ = main_and_more(summary(metrics)["tasks"]["denoise"])

    def ranks(table):
        ranked = cases.ranking(inputs, "denoise", table, task, list(MEANS))
        return None if ranked is None else {case.place: case.subject for case in ranked.cases}

    lost = metrics.drop(metrics[ours & (metrics["subject"] == scores.index[-1])].index)
    places = ranks(lost)
    assert places is not None and (places["worst"], places["best"]) == (scores.index[0], scores.index[-2])
    assert scores.index[-1] not in places.values()
    assert ranks(metrics.assign(value=metrics["value"].where(~ours))) is None


def test_a_score_that_is_missing_in_one_task_is_said(inputs):
    whole = words(build(dataclasses.replace(inputs, volumes={})))
    assert "lack" not in whole.partition("What failed")[2][:400]
    tv = (inputs.metrics["task"] == "superres") & (inputs.metrics["method"] == "tv")
    lost = inputs.metrics[~(tv & (inputs.metrics["subject"] == "sub-03") & (inputs.metrics["metric"] == "ssim"))]
    text = words(build(dataclasses.replace(inputs, metrics=lost, volumes={})))
    assert "Super-resolution, SSIM: sub-03 of the test part lacks the score of a method." in text


def test_who_has_no_lesion_lacks_no_score_of_one(inputs):
    rows = inputs.metrics[(inputs.metrics["region"] == "head") & (inputs.metrics["task"] == "denoise")]
    lesion = rows[rows["subject"] == "sub-03"].assign(region="lesion")
    text = words(build(dataclasses.replace(inputs, metrics=pd.concat([inputs.metrics, lesion]), volumes={})))
    assert "lack" not in text.partition("What failed")[2][:400] and "n = 1" in text
    missing = lesion[lesion["method"] != "tv"]
    text = words(build(dataclasses.replace(inputs, metrics=pd.concat([inputs.metrics, missing]), volumes={})))
    assert "Denoising, PSNR: sub-03 of the test part lacks the score of a method." in text


def test_a_page_full_of_text_leaves_less_to_the_volumes_and_stays_small(inputs, tmp_path):
    rng = np.random.default_rng(0)
    paths = {}
    for name in ("truth", *MEANS):
        paths[name] = tmp_path / f"{name}.nii"
        noise = rng.uniform(500, 1000, (64, 64, 64)).astype(np.float32)
        nib.save(nib.Nifti1Image(noise, np.eye(4)), paths[name])
    loud = dataclasses.replace(
        inputs,
        truths=dict.fromkeys(inputs.truths, paths["truth"]),
        volumes={task: {m: dict.fromkeys(inputs.truths, paths[m]) for m in MEANS} for task in inputs.volumes},
        figures_per_task=1,
    )
    quiet = len(build(loud))
    assert quiet > 2_500_000
    full = build(dataclasses.replace(loud, durations={}, provenance={"log": {"text": "A" * (MOST_BYTES - 2_000_000)}}))
    assert len(full.encode()) < 25_000_000 and full.count('<script type="text/plain"') > 2
    over = build(dataclasses.replace(loud, durations={}, provenance={"log": {"text": "A" * MOST_BYTES}}))
    assert '<script type="text/plain"' not in over  # nothing is left


def test_many_problems_get_smaller_pictures_and_then_fewer(inputs):
    def shown(problems):
        many = {f"denoise-s{k}": inputs.volumes["denoise"] for k in range(problems)}
        of_them = dataclasses.replace(inputs, volumes=many, figures_per_task=8)
        metrics = inputs.metrics[inputs.metrics["task"] == "denoise"]
        task, _ = main_and_more(summary(metrics)["tasks"]["denoise"])
        ranked = cases.ranking(of_them, "denoise-s0", metrics, task, list(MEANS))
        return len(list(cases.pictures(of_them, ranked)))

    assert [shown(problems) for problems in (1, 4, 40)] == [8, 5, 1]


@pytest.mark.parametrize(
    ("outcome", "p", "mark"),
    [("won", 0.04, "wins"), ("won", 0.055, "ahead of every rival"), ("lost", 0.01, "loses"), ("alone", 1, "no rival")],
)
def test_a_task_that_no_single_test_decides_after_holm_has_a_mark_of_its_own(outcome, p, mark):
    assert _mark({"outcome": outcome, "p_holm": p}) == mark


def test_scores_of_methods_that_the_configuration_does_not_run_are_refused():
    config = Config.model_validate({"tasks": {"enabled": ["denoise"]}, "networks": {"enabled": ["wavelet_vae"]}})
    known = pd.DataFrame({"method": ["wavelet_vae", "input"]})
    reporting._refuse_other_methods(config, {"denoise": known})
    other = pd.DataFrame({"method": ["wavelet_vae", "unet", "zero_shot"]})
    with pytest.raises(InputError, match=r"scored \(denoise of unet, zero_shot\); give the configuration"):
        reporting._refuse_other_methods(config, {"denoise": other})
