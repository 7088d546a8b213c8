"""Rewards of several parts: correctness, format, length."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

from asym_lightning.checks import Count, WholeNumber, validated
from asym_lightning.types import FieldError, Verdict
from asym_lightning.verify.base import VerifierPart, check_lengths
from asym_lightning.verify.extract import last_boxed

Part = Literal["correctness", "format", "length"]


def one_box(text: str) -> bool:
    """Return whether there is exactly one ``\\boxed{}``, closed and not empty."""
    return text.count("\\boxed") == 1 and bool(last_boxed(text)[0])


def think_then_answer(text: str) -> bool:
    """Return whether the text is ``<think>...</think>`` and then ``<answer>...</answer>``.

    Each occurs once and is not empty.
    """
    text = text.strip()
    tags = ("<think>", "</think>", "<answer>", "</answer>")
    if any(text.count(tag) != 1 for tag in tags):
        return False
    if not text.startswith("<think>") or not text.endswith("</answer>"):
        return False
    thought, _, rest = text.removeprefix("<think>").partition("</think>")
    rest = rest.strip()
    if not rest.startswith("<answer>"):
        return False
    answer = rest[len("<answer>") : -len("</answer>")]
    return bool(thought.strip()) and bool(answer.strip())


@validated
class CompositeVerifier:
    """The weighted sum of three parts, each logged separately (``reward/part_*``).

    ``correctness`` is the reward of the verifier of that name, which also gives kind and answer.
    ``format`` is 1 where the completion has the form that ``format`` names, else 0. ``length`` is 0
    up to ``free_chars``, falls in a straight line to -1 at ``max_chars`` and stays there. A
    truncated completion has correctness 0, format 0 and length -1. The reward is graded: give the
    method a threshold (``algo.advantage.success_threshold``), or take a method for graded rewards.

    Args:
        correctness: the verifier that judges the answer.
        weights: of the parts; a part without a weight counts 0 and is logged all the same.
        format: ``boxed`` (exactly one box) or ``think_answer``
            (``<think>...</think><answer>...</answer>``).
        free_chars: characters without a penalty.
        max_chars: characters at which the length part is -1.

    Raises:
        FieldError: an unknown part or format, or lengths that are not in order.
    """

    def __init__(
        self,
        correctness: VerifierPart,
        weights: dict[Part, float],
        format: Literal["boxed", "think_answer"] = "boxed",
        free_chars: WholeNumber = 8000,
        max_chars: Count = 16000,
    ) -> None:
        if free_chars >= max_chars:
            raise FieldError(f"free_chars={free_chars}: must be below max_chars={max_chars}")
        self._correctness = correctness
        self._weights = {name: weights.get(name, 0.0) for name in get_args(Part)}
        self._has_format = one_box if format == "boxed" else think_then_answer
        self._free_chars, self._max_chars = free_chars, max_chars

    def score(
        self, completions: Sequence[str], references: Sequence[str], truncated: Sequence[bool]
    ) -> list[Verdict]:
        """See ``Verifier.score``."""
        check_lengths(completions, references, truncated)
        verdicts = self._correctness.score(completions, references, truncated)
        return [
            self._composed(verdict, text, cut)
            for verdict, text, cut in zip(verdicts, completions, truncated, strict=True)
        ]

    def _composed(self, verdict: Verdict, text: str, cut: bool) -> Verdict:
        """Return the verdict with the weighted sum as its reward, and the parts."""
        penalty = 1.0 if cut else self._length_penalty(len(text))
        parts = {
            "correctness": verdict.reward,
            "format": float(not cut and self._has_format(text)),
            "length": -penalty if penalty else 0.0,
        }
        reward = sum(self._weights[name] * value for name, value in parts.items())
        return replace(verdict, reward=reward, parts=parts)

    def _length_penalty(self, chars: int) -> float:
        """Return 0 up to ``free_chars``, 1 from ``max_chars`` on, a straight line in between."""
        excess = (chars - self._free_chars) / (self._max_chars - self._free_chars)
        return min(1.0, max(0.0, excess))

    def close(self) -> None:
        """Close the verifier of correctness."""
        self._correctness.close()
