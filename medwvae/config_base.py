"""What the sections of the configuration are made of: the base, checked numbers, budgets."""

import re
from typing import Annotated, NamedTuple, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

T = TypeVar("T")


def _distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    if twice := [value for n, value in enumerate(values) if value in values[:n]]:
        raise ValueError(f"{twice[0]} is named twice")
    return values


Positive = Annotated[int, Field(gt=0)]
Millimetres = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Crop = tuple[Positive, Positive]
Several = Annotated[tuple[T, ...], AfterValidator(_distinct)]


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, coerce_numbers_to_str=True)


class Budget(NamedTuple):
    """How long a network may train: one of the two is set."""

    seconds: float | None
    steps: int | None


def parse_budget(text: str) -> Budget:
    """Read '90 s', '2 min' or '2000 steps'.

    Raises
    ------
    ValueError
        If the text is none of these.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(s|min|steps)", text)
    if not match or float(match[1]) <= 0:
        raise ValueError(f"a budget reads like `90 s`, `2 min` or `2000 steps`, got {text!r}")
    amount, unit = float(match[1]), match[2]
    if unit == "steps":
        if amount != int(amount):
            raise ValueError(f"steps are whole numbers, got {text!r}")
        return Budget(None, int(amount))
    return Budget(amount * (60 if unit == "min" else 1), None)


def _checked_budget(text: str) -> str:
    parse_budget(text)
    return text


BudgetText = Annotated[str, AfterValidator(_checked_budget)]
