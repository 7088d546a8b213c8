"""Problems that are there twice: within the training data, and in training and evaluation data."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from asym_lightning.types import Problem

Pair = tuple[Problem, Problem]


def normal(text: str) -> str:
    """Text without what does not make another problem of it: letter case, white space, forms of the same character."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def passages(text: str, words: int) -> Iterator[tuple[str, ...]]:
    """All runs of so many words; a shorter text has none. Punctuation counts for nothing."""
    found = re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())
    return zip(*(found[i:] for i in range(words)), strict=False)


def bare(texts: Sequence[str]) -> list[str]:
    """The texts without the beginning and the end that all of them have, which is the instruction of a data set and no problem."""
    if len(texts) < 2:
        return list(texts)
    start, end = _shared(texts), _shared([text[::-1] for text in texts])
    return [text[start : max(start, len(text) - end)] for text in texts]


def _shared(texts: Sequence[str]) -> int:
    """How many characters all of them begin with."""
    first, last = min(texts), max(texts)
    return next((i for i, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))


def duplicates(problems: Sequence[Problem]) -> list[Pair]:
    """Each problem that repeats an earlier one, with that one. The same problem (by its id) listed again is none."""
    first: dict[str, Problem] = {}
    return [(p, q) for p in problems for q in [first.setdefault(normal(p.text), p)] if q.id != p.id]


@dataclass(frozen=True)
class Overlap:
    """Training problems that an evaluation set has too, each with the problem there: word for word, or a passage of it."""

    exact: list[Pair]
    passage: list[Pair]


def overlaps(train: Sequence[Problem], sets: Mapping[str, Sequence[Problem]], words: int) -> dict[str, Overlap]:
    """The overlap of the training problems with every set, an instruction that all of them carry aside; a passage is a run of ``words``
    words."""
    texts = {name: {normal(p.text): p for p in problems} for name, problems in sets.items()}
    runs = {name: {run: p for p in problems for run in passages(p.text, words)} for name, problems in sets.items()}
    result = {name: Overlap([], []) for name in sets}
    different = {normal(p.text): p for p in reversed(train)}
    for (key, problem), inner in zip(different.items(), bare(list(different)), strict=True):
        own = list(passages(problem.text, words))
        for name in sets:
            same = texts[name].get(key) or texts[name].get(inner)
            if same:
                result[name].exact.append((problem, same))
            else:
                shared = next((run for run in own if run in runs[name]), None)
                if shared is not None:
                    result[name].passage.append((problem, runs[name][shared]))
    return result
