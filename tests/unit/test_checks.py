"""Settings declared as types: what is taken, and the one line for what is not."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from asym_lightning.checks import (
    Count,
    NoBool,
    NonNegative,
    Positive,
    PositiveShare,
    Share,
    WholeNumber,
    validated,
)
from asym_lightning.types import ConfigError, FieldError, PartError


class Part:
    """A part of another part."""


@validated
@dataclass(frozen=True)
class Settings:
    rate: Positive
    coef: NonNegative = 0.0
    share: Share = 0.5
    ratio: PositiveShare = 1.0
    steps: WholeNumber = 0
    size: Count = 1
    on: bool = False
    level: Literal["token", "sequence"] = "token"
    dtype: Literal["bfloat16"] | None = None
    ddof: Annotated[Literal[0, 1], NoBool] = 1
    cap: Annotated[float, Field(gt=1)] | None = None
    beta: Annotated[float, Field(ge=0, lt=1)] = 0.9
    threshold: float | None = None
    part: Annotated[Part | None, Field(description="null or a Part (conf/parts)")] = None
    other: Part | None = None
    names: list[str] | None = None
    weights: dict[Literal["form", "length"], Share] | None = None
    text: Annotated[str, Field(min_length=2)] = "ab"
    count: Annotated[int, Field(lt=50_000_000)] = 1


BOGUS = f"bogus: there is no such key; its keys are {', '.join(Settings.__annotations__)}"
REFUSED: list[tuple[str, Any, str]] = [
    ("rate", 0, "rate=0: must be a finite number > 0"),
    ("rate", "fast", "rate=fast: must be a finite number > 0"),
    ("rate", True, "rate=True: must be a finite number > 0"),
    ("coef", -1, "coef=-1: must be a finite number >= 0"),
    ("coef", float("nan"), "coef=nan: must be a finite number >= 0"),
    ("coef", float("inf"), "coef=inf: must be a finite number >= 0"),
    ("share", 1.5, "share=1.5: must be a finite number >= 0 and <= 1"),
    ("ratio", 0, "ratio=0: must be a finite number > 0 and <= 1"),
    ("steps", 1.5, "steps=1.5: must be a whole number >= 0"),
    ("size", True, "size=True: must be a whole number >= 1"),
    ("size", 0, "size=0: must be a whole number >= 1"),
    ("on", "flase", "on=flase: must be true or false"),
    ("on", 1, "on=1: must be true or false"),
    ("level", "word", "level=word: must be one of token, sequence"),
    ("dtype", "float16", "dtype=float16: must be one of bfloat16, or null"),
    ("ddof", 2, "ddof=2: must be one of 0, 1"),
    ("ddof", True, "ddof=True: must be one of 0, 1"),
    ("cap", 1, "cap=1: must be a finite number > 1, or null"),
    ("beta", 1, "beta=1: must be a finite number >= 0 and < 1"),
    ("threshold", "low", "threshold=low: must be a finite number, or null"),
    ("part", 3, "part=3: must be null or a Part (conf/parts)"),
    ("other", 3, "other=3: must be a Part, or null"),
    ("names", ["a", 3], "names=['a', 3]: must be a list of text, or null"),
    ("names", "a", "names=a: must be a list of text, or null"),
    ("weights", {"form": 2}, "weights.form=2: must be a finite number >= 0 and <= 1"),
    ("weights", {"style": 1}, "weights.style: the key must be one of form, length"),
    (
        "weights",
        3,
        "weights=3: must be made of keys, each with a finite number >= 0 and <= 1, or null",
    ),
    ("text", "", "text='': must be text"),
    ("text", "\n", "text='\\n': must be text"),
    ("count", 50_000_000, "count=50000000: must be a whole number < 50000000"),
    ("bogus", 1, BOGUS),
]


@pytest.mark.parametrize(("name", "value", "text"), REFUSED, ids=[text for *_, text in REFUSED])
def test_a_value_outside_its_type_is_one_line(name: str, value: Any, text: str) -> None:
    values: dict[str, Any] = {"rate": 1.0, name: value}
    with pytest.raises(FieldError) as refused:
        Settings(**values)
    assert str(refused.value) == text


def test_values_within_their_types_are_taken() -> None:
    part = Part()
    settings = Settings(1, cap=2, part=part, names=["a"], ddof=0, dtype="bfloat16")
    assert (settings.rate, settings.cap, settings.ddof, settings.names) == (1.0, 2.0, 0, ["a"])
    assert settings.part is part


def test_a_missing_value_is_named_and_so_is_a_positional_one() -> None:
    with pytest.raises(FieldError, match=r"^rate has no value$"):
        Settings()  # type: ignore[call-arg]
    with pytest.raises(FieldError, match=r"^coef=-2: must be a finite number >= 0$"):
        Settings(1.0, -2)


def test_a_copy_with_a_bad_value_is_refused_too() -> None:
    with pytest.raises(FieldError, match=r"^share=2: "):
        replace(Settings(1.0), share=2)


def test_an_error_of_the_class_itself_passes() -> None:
    @validated
    class Ordered:
        def __init__(self, low: float = 0.0, high: float = 1.0):
            if low > high:
                raise FieldError(f"high={high}: must be at least low={low}")

    with pytest.raises(FieldError, match=r"^high=1\.0: must be at least low=2\.0$"):
        Ordered(low=2)


def test_a_refusal_says_where_the_config_has_the_part() -> None:
    refusals = {
        ConfigError("a.b=1: must be 2"): "a.b=1: must be 2",
        FieldError("b=1: must be 2"): "task.b=1: must be 2",
        PartError("sympy is not installed"): "task: sympy is not installed",
    }
    for refusal, text in refusals.items():
        placed = refusal.at("task")
        assert str(placed) == str(placed.at("above")) == text
