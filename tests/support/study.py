"""Synthetic rows of the study's table."""

import itertools

import numpy as np
import pandas as pd

from benchmarks.study.plan import Part
from benchmarks.study.records import FINAL, LAST, SETTINGS, TOTAL, WHOLE, tidy

SHORT = {key: name for name, key in SETTINGS.items()}
MEASURES = [*LAST, *WHOLE, *TOTAL, *FINAL]


def rows_of(*parts: Part) -> pd.DataFrame:
    """A row for each run of the plan, with noise for numbers."""
    rng = np.random.default_rng(0)
    rows = []
    for part in parts:
        for values in itertools.product(*part.params.values()):
            overrides = dict(zip(part.params, values, strict=True))
            rows.append(row_of(part.name, overrides, rng))
    return tidy(pd.DataFrame(rows))


def row_of(part: str, overrides: dict[str, str], rng: np.random.Generator) -> dict[str, object]:
    length = int(overrides.get("trainer.max_epochs", 100))
    row: dict[str, object] = dict.fromkeys(SETTINGS)
    row |= {"learning_rate": 3e-4, "part": part}
    row |= {"method": overrides["algo"], "seed": int(overrides["seed"])}
    for key, value in overrides.items():
        if key in SHORT and value not in ("True", "zero"):
            row[SHORT[key]] = float(value)
    row |= {name: rng.uniform(0.4, 0.6) for name in MEASURES}
    row |= {"iterations": length, "tokens": 1600 * length}
    row |= {"seconds": 40.0, "revision": "0123456789ab"}
    return row
