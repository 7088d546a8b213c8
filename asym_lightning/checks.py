"""Checks of parameters: a bad value raises one line that names the config key and says what would be right."""

import math
from typing import Any

from asym_lightning.types import ConfigError


def number(key: str, value: Any, low: float, high: float = math.inf, *, open_low: bool = False) -> None:
    """Require a finite number in [low, high] (or (low, high] if ``open_low``). Raises ConfigError otherwise, for text, bool and nan too."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not low <= value <= high or (open_low and value == low):
        upper = "" if high == math.inf else f" and <= {high:g}"
        lower = "" if low == -math.inf else f" {'>' if open_low else '>='} {low:g}"
        raise ConfigError(f"{key}={value}: must be a finite number{lower}{upper}")


def whole_number(key: str, value: Any, low: int) -> None:
    """Require a whole number >= ``low``. Raises ConfigError otherwise."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ConfigError(f"{key}={value}: must be a whole number >= {low}")


def positive_int(key: str, value: Any) -> None:
    """Require a whole number >= 1. Raises ConfigError otherwise."""
    whole_number(key, value, 1)


def switch(key: str, value: Any) -> None:
    """Require true or false: to Python a misspelt ``false`` counts as true. Raises ConfigError otherwise."""
    if not isinstance(value, bool):
        raise ConfigError(f"{key}={value}: must be true or false")


def one_of(key: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Require one of ``allowed``. Raises ConfigError otherwise (True is not taken for 1)."""
    if isinstance(value, bool) or value not in allowed:
        raise ConfigError(f"{key}={value}: must be one of {', '.join(str(item) for item in allowed)}")
