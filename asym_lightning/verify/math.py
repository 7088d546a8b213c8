"""Verification of mathematical answers.

The answer is found in the completion here and judged (``asym_lightning.verify.answers``) in jailed
worker processes.
"""

import importlib.util
from collections.abc import Sequence
from functools import cache
from typing import Literal

from asym_lightning.checks import Count, Positive, validated
from asym_lightning.types import Kind, PartError, Verdict
from asym_lightning.verify.extract import BETWEEN_BOXES, last_boxed, last_boxes, lenient
from asym_lightning.verify.pool import WorkerPool

EXTRACTORS = {"boxed": last_boxed, "lenient": lenient}


@validated
class MathVerifier:
    """Judges the answer of a completion by its reference; docs/verification.md names all forms.

    Args:
        timeout_s: seconds per answer; then its worker is killed and replaced.
        workers: processes, per rank, started on the first ``score``.
        max_chars: a longer answer is ``unparseable``.
        memory_gb: address space of a worker (GiB).
        extract: ``boxed`` takes the last ``\\boxed{}`` alone, for training; ``lenient`` falls back
            to "the answer is ..." and the last line, for models that were never told to box.

    Raises:
        FieldError: a value that cannot work.
        PartError: math-verify is missing.
    """

    def __init__(
        self,
        timeout_s: Positive = 5.0,
        workers: Count = 2,
        max_chars: Count = 1000,
        memory_gb: Positive = 4.0,
        extract: Literal["boxed", "lenient"] = "boxed",
    ) -> None:
        if importlib.util.find_spec("math_verify") is None:
            raise PartError(
                "math-verify, which parses sums and integrals, is not installed: "
                "pip install math-verify[antlr4_13_2]"
            )
        self.max_chars, self._extract = max_chars, EXTRACTORS[extract]
        self.pool = WorkerPool(
            "asym_lightning.verify.math_scorer:make",
            {},
            timeout_s,
            workers=workers,
            memory_gb=memory_gb,
        )

    def score(
        self, completions: Sequence[str], references: Sequence[str], truncated: Sequence[bool]
    ) -> list[Verdict]:
        """See ``Verifier.score``. Raises ``RuntimeError`` when the workers cannot start."""
        return self.pool.score_found(
            self._find, completions, references, truncated, as_written=_as_written
        )

    def _find(self, completion: str) -> str | Verdict:
        """Return the text for the worker, or the verdict where there is no text to compare.

        The text is the answer, or the contents of several boxes, each after a newline and a NUL.
        """
        answer, has_answer = self._extract(completion)
        if not has_answer or answer == "":
            return Verdict(0.0, Kind.NO_ANSWER)
        if answer is None:
            return Verdict(0.0, Kind.UNPARSEABLE, detail="the last \\boxed has no balanced braces")
        if len(answer) > self.max_chars:
            detail = (
                f"an answer of {len(answer)} characters; at most {self.max_chars} are looked at"
            )
            return Verdict(0.0, Kind.UNPARSEABLE, detail=detail)
        return text_of(completion, answer, self.max_chars)

    def close(self) -> None:
        """Kill the workers; the next ``score`` starts new ones."""
        self.pool.close()


def text_of(completion: str, answer: str, max_chars: int) -> str:
    """Return the text for the worker: the answer, or all boxes that belong to its box."""
    boxes = last_boxes(completion)
    several = len(boxes) > 1 and boxes[-1] == answer and sum(map(len, boxes)) <= max_chars
    return BETWEEN_BOXES.join(boxes) if several else answer


def _as_written(text: str) -> str:
    """Return the text for the worker as the completion has it: several boxes as a list."""
    return text.replace(BETWEEN_BOXES, ", ")


@cache
def shared_verifier() -> MathVerifier:
    """Return the verifier of ``score_math``; its workers end with this process."""
    return MathVerifier()
