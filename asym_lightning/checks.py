"""Ranges and choices of settings: declared as types of a part's arguments, checked by pydantic.

    @validated
    @dataclass(frozen=True)
    class Loss:
        clip_low: Share = 0.2
        level: Literal["token", "sequence"] = "token"

A bad value raises a FieldError of one line, with the field, the value and the valid values; the
builder adds the key that the part has in the config. The functions below check what one type cannot
say, such as a range that depends on another field.
"""

import inspect
import math
import types
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, validate_call

from asym_lightning.types import ConfigError, FieldError

# A number may be written as a whole number; text, bool, nan and inf are no numbers.
STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)

NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
WholeNumber = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


def _refuse_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError
    return value


# In a type of choices, where True would pass for 1.
NoBool = BeforeValidator(_refuse_bool)

Class = TypeVar("Class", bound=type)


def validated(part: Class) -> Class:
    """Let pydantic check the arguments of a class, by the types of its ``__init__``.

    The class then raises FieldError for an argument outside its type, in place of pydantic's
    error. A ``Field(description=...)`` in a type is what the error says must be given.
    """
    original = part.__init__  # type: ignore[misc]
    checked = validate_call(config=STRICT)(original)

    @wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            checked(self, *args, **kwargs)
        except ValidationError as error:
            raise _field_error(error, original, args=(self, *args), kwargs=kwargs) from None

    part.__init__ = init  # type: ignore[misc]
    return part


def expected(hint: Any) -> str:
    """Say in words what a type allows: "a finite number > 0 and <= 1"."""
    limits: dict[str, Any] = {}
    while get_origin(hint) is Annotated:
        hint, *metadata = get_args(hint)
        for part in metadata:
            if (description := getattr(part, "description", None)) is not None:
                return str(description)
            for limit in getattr(part, "metadata", ()):
                limits |= {name: getattr(limit, name) for name in LIMITS if hasattr(limit, name)}
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(hint) if kind is not type(None)]
        text = " or ".join(map(expected, kinds))
        return text if len(kinds) == len(get_args(hint)) else f"{text}, or null"
    if get_origin(hint) is Literal:
        return f"one of {', '.join(str(choice) for choice in get_args(hint))}"
    if get_origin(hint) is dict:
        return f"made of keys, each with {expected(get_args(hint)[1])}"
    if get_origin(hint) in (list, tuple) and get_args(hint):
        items = " and ".join(expected(item) for item in get_args(hint) if item is not ...)
        return f"a list of {items}"
    text = WORDS.get(hint) or f"a {getattr(hint, '__name__', hint)}"
    ends = [f" {sign} {limits[name]:.12g}" for name, sign in LIMITS.items() if name in limits]
    return text + " and".join(ends)


LIMITS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
WORDS = {float: "a finite number", int: "a whole number", bool: "true or false", str: "text"}


def _field_error(
    error: ValidationError, function: Callable[..., None], *, args: Sequence[Any], kwargs: dict
) -> FieldError:
    """The FieldError for the first error that pydantic found in a call of ``function``."""
    errors = error.errors(include_url=False)
    for other in errors:
        if other["type"] == "unexpected_keyword_argument":
            keys = ", ".join(list(inspect.signature(function).parameters)[1:])
            return FieldError(f"{other['loc'][0]}: there is no such key; its keys are {keys}")
    first, place = errors[0], errors[0]["loc"][0]
    names = list(inspect.signature(function).parameters)
    name = names[place] if isinstance(place, int) else place
    if first["type"] == "missing_argument":
        return FieldError(f"{name} has no value")
    value = inspect.signature(function).bind_partial(*args, **kwargs).arguments[name]
    hint = get_type_hints(function, include_extras=True)[name]
    return FieldError(refused(str(name), value, hint, path=first["loc"][1:]))


def refused(name: str, value: Any, hint: Any, path: Sequence[Any]) -> str:
    """Say what a value must be; of a mapping, only the entry that ``path`` leads to."""
    kind = _without_none(hint)
    if get_origin(kind) is dict and path:
        key, rest = path[0], path[1:]
        key_hint, value_hint = get_args(kind)
        if rest == ("[key]",):
            return f"{name}.{key}: the key must be {expected(key_hint)}"
        return refused(f"{name}.{key}", value[key], value_hint, path=rest)
    # An error is one line, and an empty text must be seen.
    shown = repr(value) if isinstance(value, str) and not (value and value.isprintable()) else value
    return f"{name}={shown}: must be {expected(hint)}"


def _without_none(hint: Any) -> Any:
    """The type itself: without its ranges, and without ``None``."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(hint) if kind is not type(None)]
        return _without_none(kinds[0]) if len(kinds) == 1 else hint
    return hint


def number(
    key: str, value: Any, low: float, high: float = math.inf, *, open_low: bool = False
) -> None:
    """Require a finite number in [low, high], or in (low, high] if ``open_low``.

    Raises ConfigError otherwise, for text, bool and nan too.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if (
        not is_number
        or not math.isfinite(value)
        or not low <= value <= high
        or (open_low and value == low)
    ):
        upper = "" if high == math.inf else f" and <= {high:g}"
        lower = "" if low == -math.inf else f" {'>' if open_low else '>='} {low:g}"
        raise _refusal(key, f"{value}: must be a finite number{lower}{upper}")


def positive_int(key: str, value: Any) -> None:
    """Require a whole number >= 1. Raises ConfigError otherwise."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _refusal(key, f"{value}: must be a whole number >= 1")


def switch(key: str, value: Any) -> None:
    """Require true or false. Raises ConfigError otherwise.

    Without this check a misspelt ``false`` would be text, which Python counts as true.
    """
    if not isinstance(value, bool):
        raise _refusal(key, f"{value}: must be true or false")


def one_of(key: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Require one of ``allowed``; True does not count as 1. Raises ConfigError otherwise."""
    if isinstance(value, bool) or value not in allowed:
        choices = ", ".join(str(choice) for choice in allowed)
        raise _refusal(key, f"{value}: must be one of {choices}")


def _refusal(key: str, text: str) -> ConfigError:
    """The error for a key with a dot, or for a name alone.

    A name alone is the field of a part, or a key at the top of the config, which needs no more.
    """
    kind = ConfigError if "." in key else FieldError
    return kind(f"{key}={text}")
