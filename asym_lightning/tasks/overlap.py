"""Repeated problems: within the training data, and between training and evaluation data."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from asym_lightning.types import Problem

Pair = tuple[Problem, Problem]


def normal(text: str) -> str:
    """Return text without the differences that do not make another problem of it.

    These are letter case, white space, and forms of the same character.
    """
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def passages(text: str, words: int) -> Iterator[tuple[str, ...]]:
    """Return all runs of ``words`` words, punctuation aside; a shorter text has no runs."""
    sequence = re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())
    return zip(*(sequence[i:] for i in range(words)), strict=False)


def bare(texts: Sequence[str]) -> list[str]:
    """Return the texts without the beginning and the end that all of them share.

    These belong to the instruction of a data set, not to a problem.
    """
    if len(texts) < 2:
        return list(texts)
    start, end = _shared(texts), _shared([text[::-1] for text in texts])
    return [text[start : max(start, len(text) - end)] for text in texts]


def _shared(texts: Sequence[str]) -> int:
    """Return the number of characters at the beginning that all texts share."""
    first, last = min(texts), max(texts)
    for i, (a, b) in enumerate(zip(first, last, strict=False)):
        if a != b:
            return i
    return len(first)


def duplicates(problems: Sequence[Problem]) -> list[Pair]:
    """Return each problem that repeats an earlier one, paired with the earlier one.

    A problem that is listed again under the same id does not count.
    """
    first: dict[str, Problem] = {}
    pairs: list[Pair] = []
    for problem in problems:
        earlier = first.setdefault(normal(problem.text), problem)
        if earlier.id != problem.id:
            pairs.append((problem, earlier))
    return pairs


@dataclass(frozen=True)
class Overlap:
    """Training problems that an evaluation set contains too, each with the problem of the set.

    ``exact``: word for word. ``passage``: a passage of it.
    """

    exact: list[Pair]
    passage: list[Pair]


def overlaps(
    train: Sequence[Problem], sets: Mapping[str, Sequence[Problem]], words: int
) -> dict[str, Overlap]:
    """Return the overlap of the training problems with every set.

    An instruction that all training problems share is ignored. A passage is a run of ``words``
    words.
    """
    if not sets:
        return {}
    texts = {name: {normal(p.text): p for p in problems} for name, problems in sets.items()}
    runs = {
        name: {run: p for p in problems for run in passages(p.text, words)}
        for name, problems in sets.items()
    }
    result = {name: Overlap([], []) for name in sets}
    distinct = {normal(p.text): p for p in reversed(train)}
    for (text, problem), bare_text in zip(distinct.items(), bare(list(distinct)), strict=True):
        problem_runs = list(passages(problem.text, words))
        for name in sets:
            same = texts[name].get(text) or texts[name].get(bare_text)
            if same:
                result[name].exact.append((problem, same))
                continue
            shared = next((run for run in problem_runs if run in runs[name]), None)
            if shared is not None:
                result[name].passage.append((problem, runs[name][shared]))
    return result
