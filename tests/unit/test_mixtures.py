"""Mixtures of tasks, and reasoning-gym."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from asym_lightning.tasks.countdown import PairsCountdown
from asym_lightning.tasks.mixture import Mixture
from asym_lightning.types import FieldError, Kind, PartError, Problem
from tests.support.characters import characters, text
from tests.support.coin import Parity


def test_a_mixture_has_its_weights_and_each_source_its_verifier(tmp_path: Path) -> None:
    sources = {"parity": Parity(), "pairs": PairsCountdown(train_size=6, heldout_size=4)}
    task = Mixture(sources, {"parity": 1, "pairs": 0.5})
    counts = Counter(problem.id.split(":")[0] for problem in task.train)
    assert counts == {"parity": 48, "pairs": 24} and len({p.id for p in task.train}) == 48 + 6
    assert len(task.heldout) == 16 + 4
    assert "parity 48 (48 different), pairs 24 (6 different)" in task.notes[-1]
    first = Counter(problem.id.split(":")[0] for problem in task.heldout[:5])
    assert first == {"parity": 4, "pairs": 1}
    pair = next(p for p in task.train if p.id.startswith("pairs"))
    assert text(task.encode(pair, characters())) == pair.text
    correct = PairsCountdown.solutions(Problem("", "", pair.answer.removeprefix("pairs:")))[0]
    completions = ["\x02", correct, "\x01", "1"]
    references = ["parity:even", pair.answer] * 2
    verdicts = task.verifier().score(completions, references, [False] * 4)
    assert [v.kind for v in verdicts] == [Kind.CORRECT, Kind.CORRECT, Kind.WRONG, Kind.UNPARSEABLE]
    refused: list[tuple[Any, Any, str]] = [
        (sources, {"nobody": 1}, r"^weights\.nobody: .* the sources are parity, pairs$"),
        (sources, {"parity": 0}, r"^weights\.parity=0: must be a finite number > 0$"),
        (sources, {"parity": "x"}, r"^weights\.parity=x: must be a finite number > 0$"),
        (sources, {"parity": True}, r"^weights\.parity=True: must be a finite number > 0$"),
        ({}, None, r"^sources=\{\}: must be made of tasks, such as \+task@KEY"),
        ({"parity": 3}, None, r"^sources\.parity=3: must be a task \(conf/task\)"),
        ({"a:b": Parity()}, None, r"^sources\.a:b: .* a name without a colon$"),
    ]
    for given, weights, message in refused:
        with pytest.raises(FieldError, match=message):
            Mixture(given, weights)


def test_reasoning_gym_by_name_weight_and_level() -> None:
    pytest.importorskip("reasoning_gym", reason="needs the package reasoning-gym")
    from asym_lightning.tasks.reasoning_gym import ReasoningGymTask

    hard = {
        "chain_sum": {"weight": 2, "level": 1, "min_terms": 5, "max_terms": 5},
        "basic_arithmetic": 1,
    }
    # With this verifier no jail is needed.
    here = {"train_size": 90, "heldout_size": 30, "verify": Parity()}
    task = ReasoningGymTask(hard, **here)
    counts = Counter(p.id.split("/")[0] for p in task.train)
    assert counts == {"chain_sum": 60, "basic_arithmetic": 30}
    assert not {p.text for p in task.train} & {p.text for p in task.heldout}
    assert task.train == ReasoningGymTask(hard, **here).train
    assert task.train != ReasoningGymTask(hard, **here, seed=1).train
    reference = json.loads(next(p.answer for p in task.train if p.id.startswith("chain_sum")))
    assert reference["dataset"] == "chain_sum" and reference["entry"]["metadata"]["num_terms"] == 5
    unknown, swapped = {"terms": 3}, {"min_terms": 9, "max_terms": 3}
    for bad, message in (
        (
            {"chain_sun": 1},
            r"^datasets\.chain_sun: reasoning-gym has no such data set; near: chain_sum",
        ),
        (
            {"chain_sum": unknown},
            r"^datasets\.chain_sum\.terms: no such setting; it has weight, level, .*min_terms",
        ),
        ({"chain_sum": swapped}, r"^datasets\.chain_sum: max_terms must be >= min_terms"),
        ({"chain_sum": -1}, r"^datasets\.chain_sum=-1: must be a weight above 0, or keys: weight"),
        ({"chain_sum": {"weight": "x"}}, r"^datasets\.chain_sum\.weight=x: must be a finite"),
        ({"chain_sum": {"level": True}}, r"^datasets\.chain_sum\.level=True: must be a whole"),
        ({"gsm_symbolic": {"level": 1}}, r"^datasets\.gsm_symbolic\.level=1: it has no levels"),
        ({}, r"^datasets=\{\}: must be data sets with weights, such as \{chain_sum: 1"),
    ):
        with pytest.raises(FieldError, match=message):
            ReasoningGymTask(bad, verify=Parity())  # type: ignore[arg-type]


def test_answers_of_reasoning_gym_are_right_by_its_own_scorer() -> None:
    pytest.importorskip("reasoning_gym", reason="needs the package reasoning-gym")
    from asym_lightning.tasks.reasoning_gym import ReasoningGymTask

    try:
        task = ReasoningGymTask({"chain_sum": 1}, train_size=4, heldout_size=1)
    except PartError as error:
        pytest.skip(f"its scorers run in the kernel's jail: {error}")
    verifier = task.verifier()
    references = [problem.answer for problem in task.train]
    answers = [json.loads(reference)["entry"]["answer"] for reference in references]
    completions = [f"So \\boxed{{{answer}}}." for answer in answers]
    verdicts = verifier.score(completions, references, [False] * len(answers))
    verifier.close()
    assert len(verdicts) > 2 and all(verdict.kind is Kind.CORRECT for verdict in verdicts)
