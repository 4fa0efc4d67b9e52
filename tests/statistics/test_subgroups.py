import numpy as np
import pandas as pd
import pytest

from medwvae.statistics import age_band, groups, mean_interval, subgroup_rows


def people():
    return pd.DataFrame(
        {
            "age": [17.9, 18, 39, 85, np.nan, 60],
            "sex": ["F", "M", "", "F", "M", np.nan],
            "contrast": ["t1w", "t1w", "t2w", "t2w", "unknown", "t1w"],
            "site": ["Ost"] * 6,
        },
        index=[f"v{k}" for k in range(6)],
    )


@pytest.mark.parametrize(
    ("age", "band"),
    [(0, "0–17"), (17.9, "0–17"), (18, "18–39"), (59, "40–59"), (90, "80 and above"), (np.nan, ""), (None, "")],
)  # fmt: skip
def test_age_bands(age, band):
    assert age_band(age) == band


def test_groups_that_the_table_has():
    found = groups(people())
    assert set(found) == {"age", "sex", "contrast"}  # one site is no group
    assert found["sex"] == {"v0": "F", "v1": "M", "v3": "F", "v4": "M"}
    assert found["contrast"]["v2"] == "t2w" and "v4" not in found["contrast"]
    assert found["age"]["v3"] == "80 and above" and "v4" not in found["age"]
    assert groups(people()[["contrast"]].assign(contrast="t1w")) == {}


def test_rows_are_the_means_within_groups_and_volumes_of_a_subject_count_once():
    rng, rows = np.random.default_rng(0), []
    for k in range(8):
        for session in range(1 + k % 2):
            for method, mean in (("ours", 30.0), ("tv", 28.0)):
                volume, value = f"v{k}-{session}", mean + rng.normal()
                rows.append({"method": method, "subject": f"s{k}", "volume": volume, "value": value})
    values = pd.DataFrame(rows)
    sex = {volume: "F" if int(volume[1]) < 5 else "M" for volume in values["volume"]}
    found = {row["group"]: row for row in subgroup_rows(values, {"sex": sex}, method="ours", rival="tv")}
    assert (found["F"]["n"], found["M"]["n"]) == (5, 3)
    own = values[(values["method"] == "ours") & values["volume"].map(sex).eq("F")]
    expected = mean_interval(own.groupby("subject")["value"].mean())
    assert (found["F"]["mean"], found["F"]["low"]) == (expected.mean, expected.low)
    assert found["F"]["difference"] == pytest.approx(2.0, abs=1.5)
    assert subgroup_rows(values, {"sex": {"v0-0": "F", "v1-0": "M"}}, method="ours")[0]["low"] is None
    assert subgroup_rows(values, {"sex": sex}, method="unet") == []
