"""A mixture of tasks by weight; each source keeps its own prompts and its own verifier."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Annotated

from pydantic import Field
from transformers import PreTrainedTokenizerBase

from asym_lightning.checks import Positive, validated
from asym_lightning.tasks.base import Task, TaskPart
from asym_lightning.types import FieldError, Problem, Verdict
from asym_lightning.verify.base import Verifier, check_lengths

Sources = Annotated[
    dict[str, TaskPart],
    Field(
        min_length=1,
        description="made of tasks, such as +task@KEY.math=math +task@KEY.sums=reasoning_gym "
        "with this key as KEY",
    ),
]


class MixtureVerifier:
    """Passes every answer to the verifier of its source.

    The reference of the answer names the source: ``source:reference``.
    """

    def __init__(self, verifiers: Mapping[str, Verifier]) -> None:
        self.verifiers = verifiers

    def score(
        self, completions: Sequence[str], references: Sequence[str], truncated: Sequence[bool]
    ) -> list[Verdict]:
        """See ``Verifier.score``."""
        check_lengths(completions, references, truncated)
        tagged = [reference.partition(":") for reference in references]
        verdicts: dict[int, Verdict] = {}
        for name, verifier in self.verifiers.items():
            rows = [i for i, (source, _, _) in enumerate(tagged) if source == name]
            if rows:
                scored = verifier.score(
                    [completions[i] for i in rows],
                    [tagged[i][2] for i in rows],
                    [truncated[i] for i in rows],
                )
                verdicts |= dict(zip(rows, scored, strict=True))
        return [verdicts[i] for i in range(len(references))]

    def close(self) -> None:
        """Close the verifiers of all sources."""
        for verifier in self.verifiers.values():
            verifier.close()


@validated
class Mixture:
    """Problems of several tasks; a source's share of the training problems follows its weight.

    The share is the source's weight (1 by default) over the sum of all weights. One pass holds
    every problem of every source. The source that is largest for its weight is in it once, the
    others repeat. ``heldout`` is all held-out problems of the sources, interleaved: its first
    problems come from every source, by the shares of their held-out problems. Ids and references
    begin with the source's name.

    Args:
        sources: tasks by name.
        weights: weights by name of the source.

    Raises:
        FieldError: no sources, a weight that is not above 0 or is for an unknown source, a source
            without training problems or with a colon in its name.
    """

    name = "mixture"

    def __init__(self, sources: Sources, weights: dict[str, Positive] | None = None) -> None:
        weights = weights or {}
        self._check(sources, weights)
        self.sources = sources
        weight_of = {name: weights.get(name, 1.0) for name in sources}
        scale = max(len(source.train) / weight_of[name] for name, source in sources.items())
        counts = {name: max(1, round(scale * weight)) for name, weight in weight_of.items()}
        self.train: Sequence[Problem] = [
            self._tagged(name, source.train[i % len(source.train)])
            for name, source in sources.items()
            for i in range(counts[name])
        ]
        self.heldout: Sequence[Problem] = self._interleaved_heldout()
        shares = ", ".join(
            f"{name} {counts[name]} ({len(source.train)} different)"
            for name, source in sources.items()
        )
        self.notes: Sequence[str] = (
            *(note for source in sources.values() for note in source.notes),
            f"problems of a pass: {shares}",
        )

    @staticmethod
    def _check(sources: Mapping[str, Task], weights: Mapping[str, float]) -> None:
        for name in weights:
            if name not in sources:
                raise FieldError(
                    f"weights.{name}: there is no such source; the sources are {', '.join(sources)}"
                )
        for name, source in sources.items():
            if ":" in name or not source.train:
                raise FieldError(
                    f"sources.{name}: a source needs training problems, and a name without a colon"
                )

    def _interleaved_heldout(self) -> list[Problem]:
        """Return the held-out problems, ordered by their relative position in their source."""
        positions: list[tuple[float, Problem]] = []
        for name, source in self.sources.items():
            for i, problem in enumerate(source.heldout):
                positions.append((i / len(source.heldout), self._tagged(name, problem)))
        return [problem for _, problem in sorted(positions, key=itemgetter(0))]

    def verifier(self) -> MixtureVerifier:
        return MixtureVerifier({name: source.verifier() for name, source in self.sources.items()})

    def encode(self, problem: Problem, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Return the token ids of the prompt as its source makes it."""
        source, _, identifier = problem.id.partition(":")
        original = replace(problem, id=identifier, answer=problem.answer.partition(":")[2])
        return self.sources[source].encode(original, tokenizer)

    @staticmethod
    def _tagged(source: str, problem: Problem) -> Problem:
        return replace(problem, id=f"{source}:{problem.id}", answer=f"{source}:{problem.answer}")
