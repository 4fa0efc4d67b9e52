"""The same numbers within groups of subjects: site, sex, age band, contrast. Descriptions, not tests."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from medwvae.statistics.intervals import mean_interval

AGE_BANDS: Final = (0, 18, 40, 60, 80, 200)
"""Years at which a band begins; the last is the end."""

VARIABLES: Final = ("site", "sex", "age", "contrast")


def age_band(age: float | None) -> str:
    """Return '40–59' of an age in years, '80 and above', or '' if it is not known."""
    if age is None or not np.isfinite(age) or not AGE_BANDS[0] <= age < AGE_BANDS[-1]:
        return ""
    place = int(np.searchsorted(AGE_BANDS, age, side="right")) - 1
    low, high = AGE_BANDS[place], AGE_BANDS[place + 1]
    return f"{low} and above" if high == AGE_BANDS[-1] else f"{low}–{high - 1}"


def groups(people: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Return, for each of site, sex and age that the table has, the group of each volume or subject (its index).

    A variable with fewer than two groups tells nothing and is left out; who belongs to none is in no group.
    """
    found: dict[str, dict[str, str]] = {}
    for variable in VARIABLES:
        if variable not in people:
            continue
        column = people[variable]
        if variable == "age":
            names = pd.to_numeric(column, errors="coerce").map(age_band)
        else:
            names = column.astype(object).where(column.notna(), "").astype(str).replace({"nan": "", "unknown": ""})
        known = {str(key): str(name) for key, name in names.items() if name}
        if len(set(known.values())) > 1:
            found[variable] = known
    return found


def subgroup_rows(
    values: pd.DataFrame, of_volume: Mapping[str, Mapping[str, str]], *, method: str, rival: str | None = None
) -> list[dict[str, Any]]:
    """Return one row per variable and group: the method's mean over its subjects, and its difference from a rival.

    Parameters
    ----------
    values : DataFrame
        Columns `method`, `subject`, `volume`, `value`: one metric in one region.
    of_volume
        `groups` by volume.

    Returns
    -------
    list of dict
        `variable`, `group`, `n` subjects, `mean`, `median`, `low`, `high`, and with a rival `difference`,
        `difference_low`, `difference_high` of method − rival; None where there is no interval. A subject's volumes in
        a group are averaged.
    """
    rows = []
    finite = values[np.isfinite(values["value"])]
    for variable, members in of_volume.items():
        group = finite["volume"].astype(str).map(dict(members))
        for name, block in finite.groupby(group, sort=True):
            wide = block.pivot_table(index="subject", columns="method", values="value", aggfunc="mean")
            if method not in wide or wide[method].dropna().empty:
                continue
            own = mean_interval(wide[method].dropna())
            row = {"variable": variable, "group": str(name), "n": own.n, "mean": own.mean, "median": own.median}
            row |= {"low": _finite(own.low), "high": _finite(own.high)}
            if rival is not None and rival in wide:
                both = wide[[method, rival]].dropna()
                gap = mean_interval(both[method] - both[rival]) if len(both) else None
                row["difference"] = None if gap is None else gap.mean
                row["difference_low"] = None if gap is None else _finite(gap.low)
                row["difference_high"] = None if gap is None else _finite(gap.high)
            rows.append(row)
    return rows


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
