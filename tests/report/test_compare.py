"""Runs beside each other: right verdicts on a planted regression and on none, right numbers, nothing unescaped."""

import json
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats
from typer.testing import CliRunner

from medwvae.cli import app
from medwvae.errors import ConfigError, InputError
from medwvae.report.compare import Gate, cells, compare, named, parse_gate, render_text_table, words
from medwvae.report.compare_page import page, write_figure
from medwvae.statistics import holm
from tests.report.test_report import Elements, table

EVIL = '<script>alert("x")</script> \u202ereversed\u2069 \U0001f9e0\n# heading | cell'
GATE = Gate("psnr", 0.1)


def again(metrics, shift=0.0, noise=0.03, seed=1, method="wavelet_vae"):
    """Return the same study trained again: PSNR of one method moved by `shift` dB, a little noise on every subject."""
    rng, found = np.random.default_rng(seed), metrics.copy()
    moved = (found["method"] == method) & (found["metric"] == "psnr")
    found.loc[moved, "value"] += shift + rng.normal(0, noise, int(moved.sum()))
    return found


def runs(*tables):
    return named(tables)


@pytest.fixture(scope="module")
def base():
    return table(subjects=20)


def test_a_planted_regression_of_two_tenths_of_a_decibel_is_found(base):
    result = compare(runs(base, again(base, -0.2)), gates=[GATE])
    (row,) = [row for row in result["rows"] if row["metric"] == "psnr"]
    assert row["verdict"] == "worse" and row["difference"] == pytest.approx(-0.2, abs=0.03) and row["n"] == 20
    (gate,) = result["gates"]
    assert gate["failed"] and result["failed"] and gate["p_holm"] < 0.001
    assert words(result)[0].startswith("REGRESSION. Denoising, Wavelet-VAE (ours), PSNR: B demo is worse by more than")


@pytest.mark.parametrize("seed", range(5))
def test_a_null_is_no_regression(base, seed):
    result = compare(runs(base, again(base, 0.0, seed=seed)), gates=[Gate("psnr", 0.0), GATE])
    assert not result["failed"]
    assert not any("REGRESSION" in sentence for sentence in words(result))


def test_settings_of_a_task_are_compared_each_with_itself():
    both = table(subjects=20, tasks=("denoise-s3", "denoise-s9"))
    worse = pd.concat([both[both["task"] == "denoise-s3"], again(both[both["task"] == "denoise-s9"], -0.2)])
    result = compare(runs(both, worse), gates=[GATE])
    assert {gate["task"]: gate["failed"] for gate in result["gates"]} == {"denoise-s3": False, "denoise-s9": True}
    assert words(result)[0].startswith("REGRESSION. Denoising s9, ")
    assert "Denoising s3" in page(result)


def test_less_than_the_margin_passes_though_it_is_worse(base):
    result = compare(runs(base, again(base, -0.05)), gates=[GATE])
    assert next(row for row in result["rows"] if row["metric"] == "psnr")["verdict"] == "worse"
    assert not result["failed"]


def test_better_passes_and_lower_is_better_for_nmse(base):
    better = base.copy()
    moved = (better["method"] == "wavelet_vae") & (better["metric"] == "nmse")
    better.loc[moved, "value"] *= 0.9
    result = compare(runs(base, better), gates=[Gate("nmse", 0.0)])
    row = next(row for row in result["rows"] if row["metric"] == "nmse")
    assert row["verdict"] == "better" and row["difference"] < 0 and row["ahead"] == 20 and not result["failed"]
    assert compare(runs(better, base), gates=[Gate("nmse", 0.0)])["failed"]


def test_false_alarms_are_as_rare_as_promised(base):
    # Three later runs, two gates: Holm keeps the chance of any false alarm at 5 %.
    alarms = [
        compare(
            runs(base, *(again(base, -0.1, 0.2, seed=3 * k + j) for j in range(3))), gates=[GATE, Gate("ssim", 0.0)]
        )["failed"]
        for k in range(8)
    ]
    assert sum(alarms) <= 2


def test_numbers_are_scipys_and_pairs_are_by_subject(base):
    other = again(base, -0.02, 0.1).sample(frac=1, random_state=3)  # another order of rows
    third = again(base, 0.05, 0.1, seed=9)
    other = other[other["subject"] != "sub-03"]
    result = compare(runs(base, other, third))
    wide = [
        t[(t["method"] == "wavelet_vae") & (t["metric"] == "psnr") & (t["region"] == "head")].set_index("subject")[
            "value"
        ]
        for t in (base, other, third)
    ]
    found = [row for row in result["rows"] if row["metric"] == "psnr"]
    expected = [(w - wide[0]).dropna() for w in wide[1:]]
    assert [row["n"] for row in found] == [19, 20]
    for row, d in zip(found, expected, strict=True):
        assert row["difference"] == pytest.approx(d.mean()) and row["p"] == pytest.approx(stats.wilcoxon(d).pvalue)
        assert row["differences"] == pytest.approx(d.to_dict())
    assert [row["p_holm"] for row in found] == pytest.approx(holm([row["p"] for row in found]))
    assert "denoise: wavelet_vae: B demo lacks 1 subject (sub-03), left out" in result["notes"]
    assert result["runs"] == ["A demo", "B demo", "C demo"]
    json.dumps(result, allow_nan=False)


def test_a_metric_with_a_target_is_compared_by_its_distance(base):
    def with_sharpness(value):
        rows = base[(base["method"] == "wavelet_vae") & (base["metric"] == "psnr")].copy()
        jitter = np.random.default_rng(0).normal(0, 0.001, len(rows))
        return pd.concat([base, rows.assign(metric="edge_sharpness", value=value + jitter, unit="")])

    result = compare(runs(with_sharpness(0.9), with_sharpness(1.2)), gates=[Gate("edge_sharpness", 0.0)])
    row = next(row for row in result["rows"] if row["metric"] == "edge_sharpness")
    assert row["verdict"] == "worse" and row["difference"] == pytest.approx(0.1, abs=0.01) and result["failed"]


def with_few_large_gains(metrics):
    """Return a study whose PSNR is 0.1 dB less in all subjects but three, who gain 3 dB."""
    found = metrics.copy()
    moved = (found["method"] == "wavelet_vae") & (found["metric"] == "psnr")
    few = found["subject"] < "sub-03"
    found.loc[moved, "value"] += few.map({True: 3.0, False: -0.1})
    return found


def test_a_mean_that_the_ranks_speak_against_is_no_verdict():
    base = table(subjects=25)
    result = compare(runs(base, with_few_large_gains(base)))
    (row,) = [row for row in result["rows"] if row["metric"] == "psnr"]
    assert row["difference"] > 0 > row["rank_biserial"] and row["p_holm"] < 0.05
    assert row["verdict"] == "mean and ranks disagree"
    assert "0 better, 0 worse, in 1 mean and ranks disagree" in " ".join(words(result))


def test_how_many_comparisons_chance_explains_is_said(base):
    three = words(compare(runs(base, again(base))))
    assert "not over all 3 of them" in three[-1] and "about 5 in 100 show a difference by chance alone" in three[-1]
    one = base[base["metric"] == "psnr"]
    assert not any("chance" in sentence for sentence in words(compare(runs(one, again(one)))))


def of(metrics, subject="sub"):
    """Return the PSNR of our method in super-resolution, of all subjects or of one."""
    rows = metrics.query("task == 'superres' and metric == 'psnr' and method == 'wavelet_vae'")
    return rows[rows["subject"].str.startswith(subject)]


@pytest.mark.parametrize(
    ("of_later", "named"),
    [
        (lambda t: t[t["task"] != "superres"], "superres: B demo has none of it"),
        (lambda t: t[(t["task"] != "superres") | (t["method"] != "wavelet_vae")], "superres: wavelet_vae is not in"),
        (lambda t: t.assign(setting=t["setting"].where(t["task"] != "superres", "strong")), "B demo as strong / demo"),
        (lambda t: t[t["subject"] != "sub-07"], "B demo lacks 1 subject (sub-07)"),
        (lambda t: t.drop(of(t).index), "superres: wavelet_vae: B demo has no PSNR"),
        (lambda t: t.drop(of(t, "sub-07").index), "has no PSNR of 1 subject (sub-07)"),
        (
            lambda t: t.assign(value=t["value"].mask(t.index.isin(of(t, "sub-07").index), np.inf)),
            "superres: wavelet_vae: PSNR is infinite in 1 of 20 subjects",
        ),
    ],
)  # fmt: skip
def test_a_gate_does_not_pass_over_what_is_missing(of_later, named):
    base = table(subjects=20, tasks=("denoise", "superres"), means={"nlm": 26.0, "wavelet_vae": 30.0})
    both = runs(base, of_later(again(base)))
    with pytest.raises(InputError, match="cannot see all of A demo") as error:
        compare(both, gates=[GATE])
    assert named in str(error.value) and "--allow-missing" in str(error.value)
    allowed = compare(both, gates=[GATE], allow_missing=True)
    assert not allowed["failed"] and any(named in note for note in allowed["notes"])
    assert compare(both)["notes"] == allowed["notes"]  # without a gate it is a note as ever


def test_what_a_gate_need_not_see_is_no_error(base):
    more = pd.concat([base, base.assign(subject=base["subject"] + "x"), base.assign(task="superres")])
    fewer = base[base["metric"] != "ssim"]
    result = compare(runs(base, more, fewer), gates=[GATE])
    assert not result["failed"] and len(result["notes"]) == 2
    with pytest.raises(InputError, match="has no method mean"):
        compare(runs(base, base), methods=["wavelet_vae", "mean"], gates=[GATE])


def test_distances_of_volumes_are_compared_where_they_are_known(base):
    """Two volumes 20 HU too high and too low average to no bias, and are no match for two without any."""
    rows = base[(base["method"] == "wavelet_vae") & (base["metric"] == "psnr")]
    noise = np.random.default_rng(0).normal(0, 0.1, len(rows))
    runs_of = [rows.assign(metric="hu_bias_soft", value=noise, unit="HU", distance=far + noise) for far in (1.0, 20.0)]
    result = compare(runs(*runs_of), gates=[Gate("hu_bias_soft", 5.0)])
    (row,) = result["rows"]
    assert row["difference"] == pytest.approx(19.0) and row["verdict"] == "worse" and result["failed"]


def test_what_cannot_be_compared_is_said(base):
    with pytest.raises(InputError, match="two result folders"):
        compare(runs(base))
    with pytest.raises(InputError, match="degraded or scored"):
        compare(runs(base, base.assign(setting="strong")))
    with pytest.raises(InputError, match="no test subject in common"):
        compare(runs(base, base.assign(subject=base["subject"] + "x")))
    with pytest.raises(InputError, match="not in both"):
        compare(runs(base, base), methods=["mean"])
    with pytest.raises(InputError, match="nothing to test"):
        compare(runs(base, base), gates=[Gate("hfen", 0.0)])
    with pytest.raises(InputError, match="no numbers"):
        named([base.assign(value="much"), base])
    with pytest.raises(InputError, match="no column"):
        named([base.drop(columns="subject"), base])
    few = base[base["subject"] < "sub-04"]
    with pytest.raises(InputError, match="could never fail; it needs 5 subjects"):
        compare(runs(few, again(few, -5.0)), gates=[GATE])


def test_a_run_with_few_subjects_does_not_hide_the_regression_of_another(base):
    few = base[base["subject"] < "sub-05"]  # five subjects: p = .031 at least, but not twice that
    result = compare(runs(base, again(base, -0.5), again(few, -0.5)), gates=[GATE], allow_missing=True)
    assert [gate["failed"] for gate in result["gates"]] == [True, True]
    with pytest.raises(InputError, match="could never fail; it needs 6 subjects"):
        compare(runs(base, again(few, -0.5), again(few, -0.5)), gates=[GATE], allow_missing=True)


@pytest.mark.parametrize("text", ["psnr:", "psnr:-1", "psnr:x", ":1", "psnr:nan", "nps_mean_soft:1"])
def test_a_gate_that_reads_wrong(text):
    with pytest.raises(ConfigError, match="fail-if-worse"):
        parse_gate(text)
    assert parse_gate("psnr:0.1") == GATE and parse_gate("psnr") == Gate("psnr", 0.0)


def test_hostile_text_shows_as_text(base, tmp_path):
    evil = base.assign(run=EVIL, setting=EVIL * 200, task=EVIL * 200, region=EVIL, method=f"wavelet_vae{EVIL}\x1b[2J")
    other = again(evil, -0.2).assign(protocol=EVIL)
    methods, worse = (evil["method"].iloc[0],), evil.assign(value=evil["value"] - 0.2)
    result = compare(runs(evil, worse, other), gates=[GATE], methods=methods, allow_missing=True)
    shown = page(result)
    elements = Elements(shown)
    assert elements.open == [] and not any(tag == "script" for tag, _ in elements.found)
    assert "<script>alert" not in shown and "&lt;script&gt;alert" in shown and "\u202e" not in shown
    assert "http" not in shown.replace("http-equiv", "")
    assert len(shown) < 200_000
    write_figure(tmp_path / "figure.png", result)
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    write_figure(tmp_path / "figure.svg", result)
    screen = StringIO()
    Console(file=screen, width=200).print(render_text_table(result))
    for text in ((tmp_path / "figure.svg").read_text(encoding="utf-8"), screen.getvalue()):
        assert not {"\x1b", "\u202e", "\u2069"} & set(text) and len(text) < 200_000
    with pytest.raises(InputError) as error:
        compare(runs(evil, other))
    assert not {"\x1b", "\u202e", "\u2069"} & set(str(error.value)) and len(str(error.value)) < 2000


def test_what_is_named_twice_is_compared_once(base):
    once = compare(runs(base, again(base, -0.2)), gates=[GATE])
    twice = compare(runs(base, again(base, -0.2)), methods=["wavelet_vae"] * 2, gates=[GATE, GATE])
    assert twice == once


def test_a_folder_given_twice_is_refused(tmp_path, base):
    base.to_csv(tmp_path / "metrics.csv", index=False)
    done = CliRunner().invoke(app, ["compare", str(tmp_path), f"{tmp_path}/../{tmp_path.name}"])
    assert isinstance(done.exception, InputError) and "given twice" in str(done.exception)


def test_labels_that_look_like_nothing_are_labels(tmp_path, base):
    rename = dict(zip(sorted(base["subject"].unique()), ["NA", "null", "007", "nan", "None"], strict=False))
    for name, metrics in (("a", base), ("b", again(base, -0.2))):
        (tmp_path / name).mkdir()
        metrics.assign(subject=metrics["subject"].replace(rename), setting="").to_csv(
            tmp_path / name / "metrics.csv", index=False
        )
    options = ["--json", str(tmp_path / "found.json"), "--fail-if-worse", "psnr:0.1"]
    done = CliRunner().invoke(app, ["compare", str(tmp_path / "a"), str(tmp_path / "b"), *options])
    assert done.exit_code == 3, done.output
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert {row["n"] for row in rows} == {20} and {*rename.values()} <= {*rows[0]["differences"]}


def test_a_gate_and_its_row_say_the_change_alike(base):
    worse = base.assign(value=base["value"].where(base["metric"] != "nmse", base["value"] + 0.01))
    result = compare(runs(base, worse), gates=[Gate("nmse", 0.0)])
    (row,) = [row for row in result["rows"] if row["metric"] == "nmse"]
    assert row["difference"] == pytest.approx(0.01) and result["failed"]
    assert "REGRESSION" in words(result)[0] and cells(row)["difference"] in words(result)[0]


def test_the_terminal_shows_every_number_whole_in_80_columns(base):
    result = compare(runs(base, again(base, -0.2), again(base, 0.3, seed=5)))
    screen = StringIO()
    Console(file=screen, width=80).print(render_text_table(result))
    text = screen.getvalue()
    assert "…" not in text and max(map(len, text.splitlines())) <= 80
    for row in result["rows"]:
        shown = cells(row)
        for name in ("n", "baseline_mean", "candidate_mean", "difference", "interval"):
            assert shown[name] in text
    assert {"better", "worse"} <= set(text.split())


def test_a_narrow_terminal_loses_neither_numbers_nor_verdicts(tmp_path, base, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    for name, metrics in (("a", base), ("b", again(base, -0.2))):
        (tmp_path / name).mkdir()
        metrics.to_csv(tmp_path / name / "metrics.csv", index=False)
    done = CliRunner().invoke(app, ["compare", str(tmp_path / "a"), str(tmp_path / "b")])
    assert done.exit_code == 0, done.output
    table = done.output[done.output.index("Metric") : done.output.index("Of ")]
    (line,) = [line for line in table.splitlines() if "PSNR (dB)" in line]
    assert line.split()[-1] == "worse" and "…" not in table


def test_three_hostile_runs_of_different_subjects_from_the_command(tmp_path):
    base = table(subjects=12).assign(run=EVIL + "\x1b[2J")
    base["subject"] = base["subject"].str.removeprefix("sub-")  # labels that look like numbers stay labels
    fewer = again(base, 0.0)
    for name, metrics in (("a", base), ("b", fewer[fewer["subject"] > "01"]), ("c", again(base, -0.2, seed=5))):
        (tmp_path / name).mkdir()
        metrics.to_csv(tmp_path / name / "metrics.csv", index=False)
    outs = [argument for name in ("c.html", "c.svg", "c.pdf") for argument in ("--out", str(tmp_path / name))]
    folders = [str(tmp_path / name) for name in "abc"]
    done = CliRunner().invoke(
        app,
        [
            "compare",
            *folders,
            *outs,
            "--json",
            str(tmp_path / "c.json"),
            "--fail-if-worse",
            "psnr:0.1",
            "--allow-missing",
        ],
    )
    assert done.exit_code == 3 and not {"\x1b", "\u202e"} & set(done.output)
    result = json.loads((tmp_path / "c.json").read_text())
    assert [(gate["candidate"][0], gate["failed"], gate["n"]) for gate in result["gates"]] == [
        ("B", False, 10),
        ("C", True, 12),
    ]
    assert "05" in result["rows"][0]["differences"] and any(
        "lacks 2 subjects (00 and 01)" in n for n in result["notes"]
    )
    for name in ("c.html", "c.svg"):
        shown = (tmp_path / name).read_text(encoding="utf-8")
        assert "<script>alert" not in shown and "\u202e" not in shown and str(tmp_path) not in shown
    assert (tmp_path / "c.pdf").read_bytes().startswith(b"%PDF")


def test_the_command(base, tmp_path):
    for name, metrics in (("one", base), ("two", again(base, -0.2)), ("same", again(base, 0.0))):
        (tmp_path / name).mkdir()
        metrics.to_csv(tmp_path / name / "metrics.csv", index=False)
    run = CliRunner().invoke
    gated = ["--fail-if-worse", "psnr:0.1", "--json", str(tmp_path / "out.json"), "--out", str(tmp_path / "c.html")]
    bad = run(app, ["compare", str(tmp_path / "one"), str(tmp_path / "two"), *gated])
    assert bad.exit_code == 3 and "REGRESSION" in bad.output
    assert json.loads((tmp_path / "out.json").read_text())["failed"] is True
    assert str(tmp_path) not in (tmp_path / "c.html").read_text() + (tmp_path / "out.json").read_text()
    assert run(app, ["compare", str(tmp_path / "one"), str(tmp_path / "same"), *gated]).exit_code == 0
    again(base[base["subject"] != "sub-03"]).to_csv(tmp_path / "same" / "metrics.csv", index=False)
    fewer = ["compare", str(tmp_path / "one"), str(tmp_path / "same"), *gated]
    missing = run(app, fewer).exception
    assert isinstance(missing, InputError) and "sub-03" in str(missing)
    assert run(app, [*fewer, "--allow-missing"]).exit_code == 0
    assert isinstance(run(app, ["compare", str(tmp_path / "one")]).exception, InputError)
    assert isinstance(run(app, ["compare", str(tmp_path), str(tmp_path / "two")]).exception, InputError)
    (tmp_path / "two" / "metrics.csv").write_bytes(b'run,\xff\n"')
    broken = run(app, ["compare", str(tmp_path / "one"), str(tmp_path / "two")])
    assert isinstance(broken.exception, InputError) and "cannot be read" in str(broken.exception)
    wrong = run(app, ["compare", str(tmp_path / "one"), str(tmp_path / "two"), "--out", "a.docx"])
    assert isinstance(wrong.exception, ConfigError)
