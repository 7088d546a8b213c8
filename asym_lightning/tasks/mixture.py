"""Several tasks as one, mixed by weight; each keeps its own prompts and its own verifier."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import itemgetter

from transformers import PreTrainedTokenizerBase

from asym_lightning.tasks.base import Task
from asym_lightning.types import ConfigError, Problem, Verdict
from asym_lightning.verify.base import Verifier, check_lengths


class MixtureVerifier:
    """Gives every answer to the verifier of the source that its reference (``source:reference``) names."""

    def __init__(self, verifiers: Mapping[str, Verifier]) -> None:
        self.verifiers = verifiers

    def score(self, completions: Sequence[str], answers: Sequence[str], truncated: Sequence[bool]) -> list[Verdict]:
        check_lengths(completions, answers, truncated)
        tagged = [answer.partition(":") for answer in answers]
        verdicts: dict[int, Verdict] = {}
        for name, verifier in self.verifiers.items():
            rows = [i for i, (source, _, _) in enumerate(tagged) if source == name]
            if rows:
                scored = verifier.score([completions[i] for i in rows], [tagged[i][2] for i in rows], [truncated[i] for i in rows])
                verdicts |= dict(zip(rows, scored, strict=True))
        return [verdicts[i] for i in range(len(answers))]

    def close(self) -> None:
        for verifier in self.verifiers.values():
            verifier.close()


class Mixture:
    """Of the training problems, each source's share is its weight's share of all weights (1 where none is given).

    One pass holds every problem of every source: the one that is largest for its weight once, the others' again and again. ``heldout``
    is all of the sources' held-out problems; the first ones of it are of every source, by their shares. Ids and references begin with the
    source's name. Raises ``ConfigError`` without sources and for weights that are not above 0 or name no source.
    """

    name = "mixture"

    def __init__(self, sources: Mapping[str, Task], weights: Mapping[str, float] | None = None) -> None:
        weights = dict(weights or {})
        if not sources:
            raise ConfigError("task.sources is empty: add some, such as +task@task.sources.math=math +task@task.sources.sums=reasoning_gym")
        for name, weight in weights.items():
            if name not in sources or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
                raise ConfigError(f"task.weights.{name}={weight}: must be a number above 0 for one of {', '.join(sources)}")
        for name, source in sources.items():
            if ":" in name or not source.train:
                raise ConfigError(f"task.sources.{name}: a source has training problems, and no colon in its name")
        self.sources = dict(sources)
        given = {name: float(weights.get(name, 1)) for name in sources}
        total = max(len(source.train) / given[name] for name, source in sources.items())
        counts = {name: max(1, round(total * weight)) for name, weight in given.items()}
        self.train: Sequence[Problem] = [
            self._tagged(name, source.train[i % len(source.train)]) for name, source in sources.items() for i in range(counts[name])
        ]
        heldout = [(i / len(s.heldout), self._tagged(name, p)) for name, s in sources.items() for i, p in enumerate(s.heldout)]
        self.heldout: Sequence[Problem] = [problem for _, problem in sorted(heldout, key=itemgetter(0))]
        shares = ", ".join(f"{name} {counts[name]} ({len(source.train)} different)" for name, source in sources.items())
        self.notes: Sequence[str] = (*(note for source in sources.values() for note in source.notes), f"problems of a pass: {shares}")

    def verifier(self) -> MixtureVerifier:
        return MixtureVerifier({name: source.verifier() for name, source in self.sources.items()})

    def encode(self, problem: Problem, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Token ids of the prompt as its source makes it."""
        source, _, identifier = problem.id.partition(":")
        own = replace(problem, id=identifier, answer=problem.answer.partition(":")[2])
        return self.sources[source].encode(own, tokenizer)

    @staticmethod
    def _tagged(source: str, problem: Problem) -> Problem:
        return replace(problem, id=f"{source}:{problem.id}", answer=f"{source}:{problem.answer}")
