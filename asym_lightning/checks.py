"""Checks of parameters: a bad value raises one line with the key or field and the valid values.

A key is that of the config, or the name of a field where a part checks its own: the builder then
adds the key of the part.
"""

import math
from typing import Any

from asym_lightning.types import ConfigError, FieldError


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


def whole_number(key: str, value: Any, low: int) -> None:
    """Require a whole number >= ``low``. Raises ConfigError otherwise."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise _refusal(key, f"{value}: must be a whole number >= {low}")


def positive_int(key: str, value: Any) -> None:
    """Require a whole number >= 1. Raises ConfigError otherwise."""
    whole_number(key, value, 1)


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
