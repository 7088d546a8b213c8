"""The calls of an iteration are those that the docstring of Run lists, in that order."""

import re
import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from asym_lightning.commands.train import Run
from tests.support.runs import random_policy, run


def listed() -> list[str]:
    """The calls of the docstring, in order."""
    return re.findall(r"^ +\d\. ``([\w.]+)``", Run.__doc__ or "", re.MULTILINE)


def follow(monkeypatch: pytest.MonkeyPatch, name: str, calls: list[str]) -> None:
    """Note each call of ``name``, whichever module has imported it."""
    owner_name, _, attribute = name.rpartition(".")
    try:
        owner: Any = import_module(owner_name)
    except ModuleNotFoundError:
        place, _, class_name = owner_name.rpartition(".")
        owner = getattr(import_module(place), class_name)
    work: Callable[..., Any] = getattr(owner, attribute)

    @wraps(work)
    def noted(*args: Any, **options: Any) -> Any:
        calls.append(name)
        return work(*args, **options)

    monkeypatch.setattr(owner, attribute, noted)
    for module in list(sys.modules.values()):
        is_ours = getattr(module, "__name__", "").startswith(("asym_lightning", "callbacks"))
        if is_ours and vars(module).get(attribute) is work:
            monkeypatch.setattr(module, attribute, noted)


def test_an_iteration_makes_the_calls_that_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = listed()
    assert len(names) > 10 and len(set(names)) == len(names)
    calls: list[str] = []
    for name in names:
        follow(monkeypatch, name, calls)
    policy = random_policy(tmp_path / "policy")
    settings = [f"policy.path={policy}", "trainer.max_epochs=1", "callbacks.evaluation=null"]
    settings += ["callbacks.ledger=null", "policy.prompts_per_mini_batch=8"]
    run(monkeypatch, tmp_path, *settings)
    # Of what the checks before the run have called nothing counts; then the first call of each.
    assert list(dict.fromkeys(calls[calls.index(names[0]) :])) == names
