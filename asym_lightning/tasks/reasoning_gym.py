"""Procedural problems of the package reasoning-gym: one of its data sets, or a weighted mixture, at any difficulty."""

import importlib.util
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from asym_lightning.checks import whole_number
from asym_lightning.runtime import how_to_install
from asym_lightning.tasks.prompts import INSTRUCTION, PromptFormat
from asym_lightning.types import ConfigError, Problem
from asym_lightning.verify.base import Verifier

SEED_SPACE = 10**8  # a data set makes its item i from seed + i: the seeds of train and heldout lie further apart than any size


class ReasoningGymTask:
    """``datasets`` names data sets of reasoning-gym: each a weight, or a mapping of ``weight`` (1), ``level`` (of its curriculum, 0 the
    easiest) and the data set's own settings, which go before the level's.

    ``train`` and ``heldout`` come from different seeds, and a question that is held out is not trained on; each holds a data set's
    share of ``train_size`` and ``heldout_size``. A reference is JSON: the data set's name and the entry, which its scorer needs. Raises
    ``ConfigError`` for unknown names and settings, and where the package is missing.
    """

    name = "reasoning_gym"

    def __init__(
        self,
        datasets: Mapping[str, float | Mapping[str, Any]] | None,
        train_size: int = 8192,
        heldout_size: int = 256,
        seed: int = 0,
        instruction: str = INSTRUCTION,
        system: str | None = None,
        chat_template: bool = True,
        enable_thinking: bool = False,
        plain_template: str = "{prompt}\n",
        verify: Verifier | None = None,
    ) -> None:
        if importlib.util.find_spec("reasoning_gym") is None:
            raise ConfigError(f"reasoning-gym is not installed, which makes these problems: {how_to_install('gym')}")
        if not datasets:
            raise ConfigError("task.datasets is empty: name some, such as 'task.datasets={chain_sum: 1, countdown: 2}'")
        for key, size in (("train_size", train_size), ("heldout_size", heldout_size)):
            if not 0 < size < SEED_SPACE // 2:
                raise ConfigError(f"task.{key}={size} must be at least 1 and below {SEED_SPACE // 2}")
        self.format = PromptFormat(instruction, system, chat_template, enable_thinking, plain_template)
        self._verifier = verify
        chosen = {name: _Choice(name, value) for name, value in datasets.items()}
        whole_number("task.seed", seed, 0)
        first = 2 * seed * SEED_SPACE
        heldout, notes = _draw(chosen, heldout_size, first + SEED_SPACE, "heldout")
        known = {problem.text for problem in heldout}
        drawn, more = _draw(chosen, train_size, first, "train")
        self.heldout: Sequence[Problem] = heldout
        self.train: Sequence[Problem] = [problem for problem in drawn if problem.text not in known]
        if not self.train:
            raise ConfigError("task.heldout_size leaves nothing to train on: these data sets have too few different questions")
        left_out = len(drawn) - len(self.train)
        also = [f"{left_out} of {len(drawn)} training problems are held-out questions and left out"] if left_out else []
        self.notes: Sequence[str] = [*notes, *more, *also]

    def verifier(self) -> Verifier:
        if self._verifier is None:
            from asym_lightning.verify.reasoning_gym import ReasoningGymVerifier

            self._verifier = ReasoningGymVerifier()
        return self._verifier

    def encode(self, problem: Problem, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Token ids of the prompt, template included."""
        return self.format.encode(problem, tokenizer)


class _Choice:
    """A data set with its weight and its settings."""

    def __init__(self, name: str, value: float | Mapping[str, Any]) -> None:
        from reasoning_gym.factory import CURRICULA, DATASETS

        settings = dict(value) if isinstance(value, Mapping) else {"weight": value}
        self.name, self.weight, level = name, settings.pop("weight", 1), settings.pop("level", None)
        if name not in DATASETS:
            import difflib

            near = difflib.get_close_matches(name, DATASETS, 3)
            raise ConfigError(f"task.datasets.{name}: reasoning-gym has no such data set" + (f"; near: {', '.join(near)}" if near else ""))
        if isinstance(self.weight, bool) or not isinstance(self.weight, int | float) or not 0 < self.weight < float("inf"):
            raise ConfigError(f"task.datasets.{name}: weight {self.weight} must be a number above 0")
        if level is not None and name not in CURRICULA:
            raise ConfigError(f"task.datasets.{name}: it has no levels; set {', '.join(_fields(name))} instead")
        if level is not None and (not isinstance(level, int) or level < 0):
            raise ConfigError(f"task.datasets.{name}: level {level} must be a whole number from 0")
        unknown = sorted(settings.keys() - _fields(name))
        if unknown:
            raise ConfigError(f"task.datasets.{name}.{unknown[0]}: no such setting; it has weight, level, {', '.join(_fields(name))}")
        self.settings, self.level = settings, level

    def make(self, seed: int, size: int) -> Any:
        """The data set's items that the seed and the size stand for."""
        from reasoning_gym.factory import create_curriculum, create_dataset

        settings = dict(self.settings)
        if self.level is not None:
            curriculum = create_curriculum(self.name)
            curriculum.set_global_level(self.level)
            of_level = vars(curriculum.generate_configuration())
            settings = {key: value for key, value in of_level.items() if key in _fields(self.name)} | settings
        try:
            return create_dataset(self.name, seed=seed, size=size, **settings)
        except (AssertionError, ValueError, TypeError) as error:
            raise ConfigError(f"task.datasets.{self.name}: {str(error) or type(error).__name__} (with {settings})") from None


def _fields(name: str) -> list[str]:
    """The settings of a data set that are the user's to choose."""
    from reasoning_gym.factory import DATASETS

    return sorted(DATASETS[name][1].__dataclass_fields__.keys() - {"seed", "size"})


def _draw(chosen: Mapping[str, _Choice], size: int, seed: int, part: str) -> tuple[list[Problem], list[str]]:
    """``size`` problems by weight in a mixed order, and notes on items that a data set could not make."""
    total = sum(choice.weight for choice in chosen.values())
    problems, notes = [], []
    for name, choice in chosen.items():
        count = max(1, round(size * choice.weight / total))
        items, made = choice.make(seed, count), []
        for i in range(count):
            try:
                entry = items[i]
            except Exception as error:  # a generator that gives up on a seed; each has its own
                failure = str(error) or type(error).__name__
                continue
            answer = json.dumps({"dataset": name, "entry": entry}, default=str)
            made.append(Problem(f"{name}/{part}/{i}", entry["question"], answer))
        if not made:
            raise ConfigError(f"task.datasets.{name}: not one problem could be made with {choice.settings}: {failure}")
        if len(made) < count:
            notes.append(f"{name}: {count - len(made)} of {count} {part} problems could not be made ({failure})")
        problems += made
    random.Random(seed).shuffle(problems)
    return problems, notes
