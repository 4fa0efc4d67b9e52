"""What the sections of the configuration are made of: the base, checked numbers, budgets."""

import re
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from medwvae.names import LossName

T = TypeVar("T")


def _distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    if twice := [value for n, value in enumerate(values) if value in values[:n]]:
        raise ValueError(f"{twice[0]} is named twice")
    return values


def _rising(values: tuple[float, float]) -> tuple[float, float]:
    if not values[0] < values[1]:
        raise ValueError(f"the first of {list(values)} must be below the second")
    return values


Positive = Annotated[int, Field(gt=0)]
Millimetres = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Crop = tuple[Positive, Positive]
Span = Annotated[tuple[float, float], AfterValidator(_rising)]
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


SettingName = Annotated[str, Field(pattern=r"^[a-z0-9]+$")]


def without_null(entries: Any) -> Any:
    """Leave out entries that are null: so a file takes those of a file below it away."""
    if not isinstance(entries, dict):
        return entries
    return {name: own for name, own in entries.items() if own is not None}


Settings = Annotated[
    dict[SettingName, dict[str, Any]],
    BeforeValidator(without_null, json_schema_input_type=dict[SettingName, dict[str, Any] | None]),
    Field(description="by name (letters, digits), what differs; all share one training, each is scored by itself"),
]
OVERRIDES = ("budget", "batch", "loss", "weight_decay")
"""Fields of `train` that a task may have of its own."""
OF_TRAINING = ("crop", *OVERRIDES, "settings")
"""Fields of a task that its settings cannot change."""
_ONE_TRAINING = PydanticCustomError("one_training", "all settings share one training; set it for the task itself")


class TaskSection(Section):
    """What the sections of all tasks have: a training of their own, and settings that share it."""

    if TYPE_CHECKING:  # the sections declare them, after what is measured
        crop: Crop | None
        budget: BudgetText | None
        batch: Positive | None
        loss: LossName | None
        weight_decay: float | None
        settings: Settings

    @model_validator(mode="after")
    def _settings_are_valid(self) -> Self:
        errors: list[InitErrorDetails] = []
        for name, own in self.settings.items():
            place = ("settings", name)
            errors += [
                InitErrorDetails(type=_ONE_TRAINING, loc=(*place, field), input=own[field])
                for field in OF_TRAINING
                if field in own
            ]
            try:
                self.at(name)
            except ValidationError as error:
                errors += [_moved(one, place) for one in error.errors()]
        if errors:
            raise ValidationError.from_exception_data(type(self).__name__, errors)
        return self

    def at(self, setting: str) -> Self:
        """Return the section of one setting: its own fields over those that all share, and no settings of its own."""
        return self.model_validate(self.model_dump(exclude={"settings"}) | self.settings[setting])


def _moved(error: Any, place: tuple[str, ...]) -> InitErrorDetails:
    """Return an error of a setting's section at the place where the setting is written."""
    kind = PydanticCustomError(error["type"], "{words}", {"words": error["msg"].removeprefix("Value error, ")})
    return InitErrorDetails(type=kind, loc=(*place, *error["loc"]), input=error["input"])
