import json
import math
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from medwvae.generative import table
from medwvae.statistics import mean_interval


def scores(model, system, rate, seed, values, metric="psnr", region="head"):
    return pd.DataFrame(
        {
            "run": "r", "system": system, "kind": "wavelet", "rate": rate, "seed": seed, "model": model,
            "subject": [f"s{k}" for k in range(len(values))], "region": region, "metric": metric, "value": values,
            "unit": "dB" if metric == "psnr" else None,
        }
    )  # fmt: skip


def fact(system, rate, seed, kind="wavelet", **known):
    trained = kind not in ("top_k", "codec")
    return {"system": system, "kind": kind, "rate": rate, "seed": seed, "trained": trained, **known}


ONE, TWO = [30.0, 31.0, 32.5, 29.0], [31.0, 33.0, 32.5, 30.0]


@pytest.fixture
def rows():
    everything = pd.concat(
        [
            scores("a-r8-s1", "a", 8, 1, ONE),
            scores("a-r8-s2", "a", 8, 2, TWO),
            scores("b-r8-s1", "b", 8, 1, [20.0, math.inf, 21.0, 22.0]),
            scores("a-r4-s1", "a", 4, 1, TWO),
            scores("png", "png", np.nan, np.nan, [3.0, 3.5, 4.0, 3.2], metric="bits", region="whole"),
        ]
    )
    facts = {
        "a-r8-s1": fact("a", 8, 1, sample_frechet=3.0, parameters=100, precision="32-true"),
        "a-r8-s2": fact("a", 8, 2, sample_frechet=5.0, parameters=100, finite_samples=True),
        "b-r8-s1": fact("b", 8, 1, sample_frechet=None, parameters=2_000_000),
        "a-r4-s1": fact("a", 4, 1),
        "png": fact("png", None, None, kind="codec"),
    }
    return table.summary(everything, facts)


def test_the_subject_is_the_unit_and_seeds_are_a_range(rows):
    row = next(row for row in rows if (row["system"], row["rate"]) == ("a", 8))
    entry = row["scores"]["head/psnr"]
    interval = mean_interval((np.array(ONE) + TWO) / 2)
    assert (entry["mean"], entry["low"], entry["high"], entry["n"]) == (
        pytest.approx(interval.mean), pytest.approx(interval.low), pytest.approx(interval.high), 4,
    )  # fmt: skip
    assert (entry["seeds_low"], entry["seeds_high"]) == (pytest.approx(np.mean(ONE)), pytest.approx(np.mean(TWO)))
    assert row["seeds"] == [1, 2] and row["subjects"] == 4
    assert row["facts"]["sample_frechet"] == {"mean": 4.0, "seeds_low": 3.0, "seeds_high": 5.0}
    assert set(row["facts"]) == {"sample_frechet", "parameters"}


def test_rates_are_never_mixed_and_codecs_have_none(rows):
    assert [(row["system"], row["rate"]) for row in rows] == [("a", 8), ("b", 8), ("a", 4), ("png", None)]
    png = rows[-1]
    assert png["scores"]["whole/bits"]["mean"] == pytest.approx(3.425) and png["seeds"] == []


def test_what_is_not_finite_becomes_none_with_a_note(rows):
    entry = next(row for row in rows if row["system"] == "b")["scores"]["head/psnr"]
    assert entry["mean"] is None and "infinite" in entry["note"]
    json.dumps(rows, allow_nan=False)


def test_the_best_of_a_column(rows):
    at8 = [row for row in rows if row["rate"] == 8]
    assert table.best_of(at8, "head/psnr") is None  # the rival's mean is infinite: one number is no contest
    assert table.best_of(at8, "parameters") is None
    own = {"rate": 8, "kind": "wavelet", "trained": True}
    kept = [own | {"scores": {"whole/energy_high": {"mean": mean}}, "facts": {}} for mean in (0.2, 1.3, 0.9)]
    assert table.best_of(kept, "whole/energy_high") == 0.9
    distances = [own | {"scores": {}, "facts": {"sample_frechet": {"mean": mean}}} for mean in (4.0, 2.0)]
    assert table.best_of(distances, "sample_frechet") == 2.0
    control = own | {"trained": False, "scores": {}, "facts": {"sample_frechet": {"mean": 1.0}}}
    assert table.best_of([*distances, control], "sample_frechet") == 2.0  # in no contest


def test_the_terminal_shows_every_system_and_only_columns_with_values(rows):
    screen = StringIO()
    Console(file=screen, width=80).print(table.render_text_table(rows))
    text = screen.getvalue()
    assert "…" not in text
    for said in ("a ", "b ", "png", "1/8", "1/4", "31.12", "4.000", "voxel", "–"):
        assert said in text
    assert "finest" not in text
    assert table.shown_columns(rows) == ["head/psnr", "whole/bits", "sample_frechet", "parameters"]
