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
    """The overlap of the training problems with every set; a passage is a run of ``words`` words."""
    texts = {name: {normal(p.text): p for p in problems} for name, problems in sets.items()}
    runs = {name: {run: p for p in problems for run in passages(p.text, words)} for name, problems in sets.items()}
    result = {name: Overlap([], []) for name in sets}
    for problem in {normal(p.text): p for p in reversed(train)}.values():
        key, own = normal(problem.text), list(passages(problem.text, words))
        for name in sets:
            if key in texts[name]:
                result[name].exact.append((problem, texts[name][key]))
            else:
                shared = next((run for run in own if run in runs[name]), None)
                if shared is not None:
                    result[name].passage.append((problem, runs[name][shared]))
    return result
