"""What happens to a task's problems before anything is trained or evaluated: too long, double and shared ones are found."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from asym_lightning.tasks.base import ProblemSet, Task
from asym_lightning.tasks.order import Difficulty
from asym_lightning.tasks.overlap import Pair, duplicates, normal, overlaps
from asym_lightning.types import ConfigError, Problem
from asym_lightning.verify.base import Verifier


@dataclass(frozen=True)
class Prepared:
    """The task with the problems that are left, the sets to evaluate on, the longest prompt of them all in tokens."""

    task: "PreparedTask"
    sets: Sequence[ProblemSet]
    longest: int


@dataclass
class PreparedTask:
    """A task with the problems that are left of it, and notes on those that are not."""

    task: Task
    name: str
    train: Sequence[Problem]
    heldout: Sequence[Problem]
    notes: Sequence[str]

    def verifier(self) -> Verifier:
        return self.task.verifier()

    def encode(self, problem: Problem, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        return self.task.encode(problem, tokenizer)


@dataclass(frozen=True)
class DataSettings:
    """The keys ``data.*``: most tokens of a prompt (none: what the context leaves), which training problems are dropped, how many words
    make a passage, and which problems are left out while training by how they were solved."""

    max_prompt_tokens: int | None = None
    drop_duplicates: bool = False
    drop_overlap: str | None = None
    overlap_words: int = 13
    difficulty: Difficulty = field(default_factory=Difficulty)

    def __post_init__(self) -> None:
        for key, value in (("max_prompt_tokens", self.max_prompt_tokens), ("overlap_words", self.overlap_words)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ConfigError(f"data.{key}={value}: must be a whole number of at least 1")
        if self.drop_overlap not in (None, "exact", "passage"):
            raise ConfigError(f"data.drop_overlap={self.drop_overlap}: must be null, exact or passage")


def prepare(task: Task, benchmarks: dict[str, Task], settings: DataSettings, tokenizer: Any, room: int) -> Prepared:
    """Leave out what is too long for the ``room`` (tokens) that a prompt has, find what is there twice.

    Raises:
        ConfigError: nothing is left to train on or to evaluate on.
    """
    limit = min(room, settings.max_prompt_tokens or room)
    train, longest, notes = drop_long("train", task, task.train, tokenizer, limit)
    sets = []
    for one in evaluation_sets(task, benchmarks):
        problems, most, more = drop_long(one.name, one.task, one.problems, tokenizer, limit)
        sets.append(replace(one, problems=problems))
        longest, notes = max(longest, most), [*notes, *(one.task.notes if one.task is not task else ()), *more]
    train, more = drop_shared(train, sets, settings.overlap_words, settings.drop_duplicates, settings.drop_overlap)
    heldout = next((one.problems for one in sets if one.task is task), [])
    return Prepared(PreparedTask(task, task.name, train, heldout, [*task.notes, *notes, *more]), sets, longest)


def evaluation_sets(task: Task | None, benchmarks: dict[str, Task]) -> list[ProblemSet]:
    """The held-out problems of a task, if any, as ``heldout``, and every benchmark: its held-out problems, or all where it has none."""
    own = [ProblemSet("heldout", task, task.heldout)] if task and task.heldout else []
    return own + [ProblemSet(name, other, other.heldout or other.train) for name, other in benchmarks.items()]


def drop_long(name: str, task: Task, problems: Sequence[Problem], tokenizer: Any, limit: int) -> tuple[list[Problem], int, list[str]]:
    """The problems whose prompt has at most ``limit`` tokens, the longest prompt among them, and a note on the others.

    Raises:
        ConfigError: none is left.
    """
    lengths = [len(task.encode(problem, tokenizer)) for problem in problems]
    kept = [problem for problem, length in zip(problems, lengths, strict=True) if length <= limit]
    if not kept:
        shortest, problem = min(zip(lengths, problems, strict=True), key=lambda pair: pair[0])
        raise ConfigError(
            f"{name}: every prompt is too long: the shortest, of problem {problem.id}, has {shortest} tokens and at most {limit} fit; "
            "lower rollout.max_tokens or raise data.max_prompt_tokens, which leave the prompt its place in the policy's context"
        )
    notes = []
    if len(kept) < len(problems):
        longest, problem = max(zip(lengths, problems, strict=True), key=lambda pair: pair[0])
        notes = [
            f"{name}: {len(problems) - len(kept)} of {len(problems)} prompts have more than {limit} tokens and are left out "
            f"(the longest: {problem.id}, {longest})"
        ]
    return kept, max(length for length in lengths if length <= limit), notes


def drop_shared(
    train: list[Problem], sets: Sequence[ProblemSet], words: int, drop_duplicates: bool, drop_overlap: str | None
) -> tuple[list[Problem], list[str]]:
    """The training problems without those there twice, and without those shared with a set, where that is asked for; notes on both."""
    notes: list[str] = []
    gone: set[str] = set()
    double = duplicates(train)
    if double:
        example = _example(double, "repeats")
        notes.append(f"train: {_count(double)} of {len(train)} problems repeat an earlier one ({example})" + _said(drop_duplicates))
        gone |= {later.id for later, _ in double} if drop_duplicates else set()
    texts: set[str] = set()
    for name, found in overlaps(train, {s.name: s.problems for s in sets}, words).items():
        for pairs, what, dropped in (
            (found.exact, "training problems are in it word for word", drop_overlap is not None),
            (found.passage, f"training problems share {words} words in a row with one of its", drop_overlap == "passage"),
        ):
            if pairs:
                notes.append(f"{name}: {len(pairs)} {what} ({_example(pairs, 'and')})" + _said(dropped))
                texts |= {normal(ours.text) for ours, _ in pairs} if dropped else set()
    left = [p for p in train if p.id not in gone and not (texts and normal(p.text) in texts)]
    if not left:
        raise ConfigError(f"data.drop_overlap={drop_overlap} leaves no training problem: all of them are in the evaluation sets")
    return left, notes


def _count(pairs: Sequence[Pair]) -> int:
    return len({later.id for later, _ in pairs})


def _example(pairs: Sequence[Pair], link: str) -> str:
    return f"{pairs[0][0].id} {link} {pairs[0][1].id}"


def _said(dropped: bool) -> str:
    return "; left out of training" if dropped else ""
