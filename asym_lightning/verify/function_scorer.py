"""Scorers that call foreign code: a user's function, and the data sets of reasoning-gym.

They run inside the jailed worker only.
"""

import importlib
import json
from collections.abc import Callable
from functools import cache
from typing import Any

Score = Callable[[str, str], dict[str, Any]]

# Data sets whose scorers compare boards as tuples, which JSON does not know.
_WITH_TUPLES = ("arc_agi", "rearc")


def _tuples(value: Any) -> Any:
    """Return the value with a tuple in place of every list."""
    if isinstance(value, dict):
        return {key: _tuples(part) for key, part in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _outcome(reward: Any, answer: Any, threshold: float) -> dict[str, Any]:
    """Return a reward as a reply. Raises ``ValueError`` unless it is a finite number."""
    value = float(reward)
    if not abs(value) < float("inf"):
        raise ValueError(f"the reward {value} is not a finite number")
    return {"kind": "correct" if value > threshold else "wrong", "reward": value, "answer": answer}


def make_function(target: str, threshold: float) -> Score:
    """Return the scorer that calls ``target``, given as ``module:function``."""
    module, _, name = target.partition(":")
    function = getattr(importlib.import_module(module), name)

    def score(text: str, reference: str) -> dict[str, Any]:
        result = function(text, reference)
        reward, answer = result if isinstance(result, tuple) else (result, None)
        return _outcome(reward, answer if answer is None else str(answer), threshold)

    return score


def make_reasoning_gym(threshold: float) -> Score:
    """Return a scorer that calls reasoning-gym's own answer check of an entry's data set.

    The reference is ``{"dataset": name, "entry": {...}}`` as JSON.
    """
    import reasoning_gym

    # Score once now: this imports sympy's parser, and nothing can be imported in the jail.
    entry = {"metadata": {"numbers": [1, 1], "target": 2}}
    reasoning_gym.get_score_answer_fn("countdown")("1 + 1", entry)
    scorer = cache(reasoning_gym.get_score_answer_fn)

    def score(text: str, reference: str) -> dict[str, Any]:
        fields = json.loads(reference)
        dataset, entry = fields["dataset"], fields["entry"]
        if dataset in _WITH_TUPLES:
            entry["metadata"] = _tuples(entry["metadata"])
        return _outcome(scorer(dataset)(answer=text, entry=entry), text, threshold)

    return score
