"""The interface of a verifier."""

from collections.abc import Sequence
from typing import Annotated, Protocol, runtime_checkable

from pydantic import Field

from asym_lightning.types import Kind, Verdict

TRUNCATED = Verdict(0.0, Kind.TRUNCATED)


@runtime_checkable
class Verifier(Protocol):
    """Scores completions against reference answers.

    Model output is untrusted: it is parsed, never executed.
    """

    def score(
        self, completions: Sequence[str], references: Sequence[str], truncated: Sequence[bool]
    ) -> list[Verdict]:
        """Return one verdict per completion, in order.

        A truncated completion (no end token was sampled) earns 0. Raises ``ValueError`` when the
        three arguments differ in length.
        """
        ...

    def close(self) -> None:
        """Release the worker processes; the next ``score`` starts new ones."""
        ...


# A verifier as an argument of another part.
VerifierPart = Annotated[
    Verifier, Field(description="a verifier (conf/verify), which has score() and close()")
]


def check_lengths(
    completions: Sequence[str], references: Sequence[str], truncated: Sequence[bool]
) -> None:
    """Raise ``ValueError`` unless all three have the same length."""
    if not len(completions) == len(references) == len(truncated):
        raise ValueError(
            f"{len(completions)} completions, {len(references)} answers and {len(truncated)} "
            "truncation flags: the lengths must agree"
        )
