"""Scorers of others, called inside the jailed worker only: a user's function, and reasoning-gym's data sets."""

import importlib
import json
from collections.abc import Callable
from functools import cache
from typing import Any

Score = Callable[[str, str], dict[str, Any]]

_WITH_TUPLES = ("arc_agi", "rearc")  # their scorers compare boards as tuples, which JSON does not know


def _tuples(value: Any) -> Any:
    """The same with a tuple for every list."""
    if isinstance(value, dict):
        return {key: _tuples(part) for key, part in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _outcome(reward: Any, answer: Any, threshold: float) -> dict[str, Any]:
    """A reward as a reply. Raises ``ValueError`` for one that is not a finite number."""
    value = float(reward)
    if not abs(value) < float("inf"):
        raise ValueError(f"the reward {value} is not a finite number")
    return {"kind": "correct" if value > threshold else "wrong", "reward": value, "answer": answer}


def make_function(target: str, threshold: float) -> Score:
    """The scorer that calls ``target`` (``module:function``) with completion and reference."""
    module, _, name = target.partition(":")
    function = getattr(importlib.import_module(module), name)

    def score(text: str, reference: str) -> dict[str, Any]:
        found = function(text, reference)
        reward, answer = found if isinstance(found, tuple) else (found, None)
        return _outcome(reward, answer if answer is None else str(answer), threshold)

    return score


def make_reasoning_gym(threshold: float) -> Score:
    """The scorer that lets an entry's own data set judge; the reference is ``{"dataset": name, "entry": {...}}`` as JSON."""
    import reasoning_gym

    reasoning_gym.get_score_answer_fn("countdown")("1 + 1", {"metadata": {"numbers": [1, 1], "target": 2}})  # loads sympy's parser
    scorer = cache(reasoning_gym.get_score_answer_fn)

    def score(text: str, reference: str) -> dict[str, Any]:
        asked = json.loads(reference)
        if asked["dataset"] in _WITH_TUPLES:
            asked["entry"]["metadata"] = _tuples(asked["entry"]["metadata"])
        return _outcome(scorer(asked["dataset"])(answer=text, entry=asked["entry"]), text, threshold)

    return score
