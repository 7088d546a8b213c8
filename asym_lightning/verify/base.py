"""What a verifier is."""

from collections.abc import Sequence
from typing import Protocol

from asym_lightning.types import Kind, Verdict

TRUNCATED = Verdict(0.0, Kind.TRUNCATED)


class Verifier(Protocol):
    """Scores completions against reference answers. Model output is untrusted: it is parsed, never executed."""

    def score(self, completions: Sequence[str], answers: Sequence[str], truncated: Sequence[bool]) -> list[Verdict]:
        """One verdict per completion, in order. A truncated completion (no end token was sampled) earns 0.

        Raises ``ValueError`` when the three differ in length.
        """
        ...

    def close(self) -> None:
        """Release worker processes; scoring again starts them anew."""
        ...


def check_lengths(completions: Sequence[str], answers: Sequence[str], truncated: Sequence[bool]) -> None:
    """Raise ``ValueError`` unless all three have the same length."""
    if not len(completions) == len(answers) == len(truncated):
        raise ValueError(f"{len(completions)} completions, {len(answers)} answers, {len(truncated)} truncation flags: lengths must agree")
