"""Made-up rows of the study's table."""

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
        params = part.params
        for values in itertools.product(*params.values()):
            given = dict(zip(params, values, strict=True))
            row: dict[str, object] = dict.fromkeys(SETTINGS)
            row |= {"learning_rate": 3e-4, "part": part.name, "method": given["algo"], "seed": int(given["seed"])}
            length = int(given.get("trainer.max_epochs", 100))
            row |= {SHORT[key]: float(v) for key, v in given.items() if key in SHORT and v not in ("True", "zero")}
            row |= {name: rng.uniform(0.4, 0.6) for name in MEASURES} | {"iterations": length, "tokens": 1600 * length}
            row |= {"seconds": 40.0, "revision": "0123456789ab"}
            rows.append(row)
    return tidy(pd.DataFrame(rows))
