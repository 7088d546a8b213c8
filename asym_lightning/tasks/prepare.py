"""Preparation of a task's problems before training or evaluation.

Finds problems that are too long, repeated, or shared between training and evaluation data.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from asym_lightning.checks import Count, validated
from asym_lightning.tasks.base import PromptSet, Task, encode
from asym_lightning.tasks.order import Difficulty
from asym_lightning.tasks.overlap import Pair, duplicates, normal, overlaps
from asym_lightning.types import ConfigError, FieldError, Problem, Prompt


@dataclass(frozen=True)
class Prepared:
    """The data of a run, every prompt tokenised.

    ``longest`` is the length of the longest prompt in tokens; ``notes`` are lines for the user on
    the problems that were left out, repeat others or are shared.
    """

    task: Task
    train: Sequence[Prompt]
    sets: Sequence[PromptSet]
    longest: int
    notes: Sequence[str]


@validated
@dataclass(frozen=True)
class DataSettings:
    """The keys ``data.*``.

    ``max_prompt_tokens`` limits a prompt (``None``: the room that the context leaves).
    ``drop_duplicates`` and ``drop_overlap`` (``exact`` or ``passage``) drop training problems;
    ``overlap_words`` is the length of a passage. ``difficulty`` leaves problems out during training
    by their accuracy.
    """

    max_prompt_tokens: Count | None = None
    drop_duplicates: bool = False
    drop_overlap: Literal["exact", "passage"] | None = None
    overlap_words: Count = 13
    difficulty: Difficulty = field(default_factory=Difficulty)


def prepare(
    task: Task, benchmarks: dict[str, Task], settings: DataSettings, tokenizer: Any, room: int
) -> Prepared:
    """Leave out problems that are too long; find, and drop if set, repeated and shared problems.

    Args:
        room: tokens that the context leaves for a prompt.

    Raises:
        ConfigError: no problem is left to train on or to evaluate on.
    """
    limit = min(room, settings.max_prompt_tokens or room)
    train, longest, notes = drop_long("train", task, task.train, tokenizer=tokenizer, limit=limit)
    sets: list[PromptSet] = []
    for name, set_task, problems in evaluation_sets(task, benchmarks):
        prompts, set_longest, set_notes = drop_long(
            name, set_task, problems, tokenizer=tokenizer, limit=limit
        )
        sets.append(PromptSet(name, set_task, prompts))
        longest = max(longest, set_longest)
        if set_task is not task:
            notes.extend(set_task.notes)
        notes.extend(set_notes)
    train, shared_notes = drop_shared(
        train,
        sets,
        settings.overlap_words,
        drop_duplicates=settings.drop_duplicates,
        drop_overlap=settings.drop_overlap,
    )
    return Prepared(task, train, sets, longest=longest, notes=[*task.notes, *notes, *shared_notes])


def evaluation_sets(
    task: Task | None, benchmarks: dict[str, Task]
) -> list[tuple[str, Task, Sequence[Problem]]]:
    """Return name, task and problems of every set to evaluate on.

    The held-out problems of the task, if any, are ``heldout``. A benchmark is its held-out
    problems, or all of its problems if it has no held-out ones.
    """
    sets: list[tuple[str, Task, Sequence[Problem]]] = []
    if task and task.heldout:
        sets.append(("heldout", task, task.heldout))
    for name, benchmark in benchmarks.items():
        sets.append((name, benchmark, benchmark.heldout or benchmark.train))
    return sets


def drop_long(
    name: str, task: Task, problems: Sequence[Problem], tokenizer: Any, limit: int
) -> tuple[list[Prompt], int, list[str]]:
    """Tokenise the prompts of problems, and drop those of more than ``limit`` tokens.

    Returns:
        The remaining prompts, the length of the longest one, and a note on the others.

    Raises:
        ConfigError: no prompt remains.
    """
    prompts = encode(task, problems, tokenizer)
    lengths = [len(prompt.token_ids) for prompt in prompts]
    kept = [prompt for prompt, length in zip(prompts, lengths, strict=True) if length <= limit]
    if not kept:
        shortest, problem = min(zip(lengths, problems, strict=True), key=lambda pair: pair[0])
        raise ConfigError(
            f"{name}: every prompt is too long: the shortest, of problem {problem.id}, "
            f"has {shortest} tokens and at most {limit} fit; lower rollout.max_tokens or raise "
            "data.max_prompt_tokens, which leave the prompt its place in the policy's context"
        )
    notes = []
    if len(kept) < len(problems):
        longest, problem = max(zip(lengths, problems, strict=True), key=lambda pair: pair[0])
        long = [prompt.problem.id for prompt in prompts if len(prompt.token_ids) > limit]
        listed = f"{', '.join(long[:5])}{', ...' if len(long) > 5 else ''}; "
        notes = [
            f"{name}: {len(long)} of {len(problems)} prompts have more than "
            f"{limit} tokens and are left out "
            f"({listed if len(long) > 1 else ''}the longest: {problem.id}, {longest})"
        ]
    return kept, max(length for length in lengths if length <= limit), notes


def drop_shared(
    train: list[Prompt],
    sets: Sequence[PromptSet],
    words: int,
    *,
    drop_duplicates: bool,
    drop_overlap: str | None,
) -> tuple[list[Prompt], list[str]]:
    """Find the training problems that repeat an earlier one or are in an evaluation set too.

    Args:
        train: prompts of the training problems.
        sets: the evaluation sets.
        words: the length of a passage.
        drop_duplicates: drop the problems that repeat an earlier one.
        drop_overlap: ``exact`` drops the problems that a set contains word for word, ``passage``
            also those that share a passage with a problem of a set.

    Returns:
        The remaining training prompts, and notes on both kinds.

    Raises:
        ConfigError: no training problem remains.
    """
    notes: list[str] = []
    dropped_ids: set[str] = set()
    problems = [prompt.problem for prompt in train]
    repeats = duplicates(problems)
    if repeats:
        count = len({later.id for later, _ in repeats})
        notes.append(
            f"train: {count} of {len(train)} problems repeat an earlier one "
            f"({_example(repeats, 'repeats')}){_consequence(drop_duplicates)}"
        )
        if drop_duplicates:
            dropped_ids = {later.id for later, _ in repeats}
    dropped_texts: set[str] = set()
    others = {subset.name: [prompt.problem for prompt in subset.prompts] for subset in sets}
    for name, overlap in overlaps(problems, others, words).items():
        exact = "training problems are in it word for word"
        passage = f"training problems share {words} words in a row with one of its"
        for pairs, finding, dropped in (
            (overlap.exact, exact, drop_overlap is not None),
            (overlap.passage, passage, drop_overlap == "passage"),
        ):
            if not pairs:
                continue
            notes.append(
                f"{name}: {len(pairs)} {finding} ({_example(pairs, 'and')}){_consequence(dropped)}"
            )
            if dropped:
                dropped_texts |= {normal(problem.text) for problem, _ in pairs}
    remaining = [
        prompt
        for prompt in train
        if prompt.problem.id not in dropped_ids
        and not (dropped_texts and normal(prompt.problem.text) in dropped_texts)
    ]
    if not remaining:
        raise FieldError(
            f"drop_overlap={drop_overlap} leaves no training problem: "
            "all of them are in the evaluation sets"
        )
    return remaining, notes


def _example(pairs: Sequence[Pair], link: str) -> str:
    return f"{pairs[0][0].id} {link} {pairs[0][1].id}"


def _consequence(dropped: bool) -> str:
    return "; left out of training" if dropped else ""
