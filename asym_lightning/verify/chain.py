"""Chain countdown: two written steps, read by one pattern and computed in exact arithmetic.

No answer is ever executed.
"""

import re
from collections import Counter
from collections.abc import Sequence

from asym_lightning.types import Kind, Verdict
from asym_lightning.verify.base import TRUNCATED, check_lengths
from asym_lightning.verify.countdown import MAX_CHARS, apply, canonical

# Largest result of a step: every number up to here is one token.
LARGEST = 99
# Spaces may surround a number, but not split it.
_STEP = r"\s*([0-9]+)\s*([-+*/])\s*([0-9]+)\s*=\s*([0-9]+)\s*"
_CHAIN = re.compile(f"{_STEP},{_STEP}", re.ASCII)
_REFERENCE = re.compile(r"((?:[0-9]+,){3}[0-9]+)>([0-9]+)", re.ASCII)

Step = tuple[int, str, int, int]  # x, operation, y, result


def parse_chain(text: str) -> tuple[Step, Step] | None:
    """Return the two steps of a chain like ``9-4=5,12*5=60`` (spaces allowed), else ``None``."""
    match = _CHAIN.fullmatch(text)
    if match is None:
        return None
    x, op, y, result, x2, op2, y2, result2 = match.groups()
    return (int(x), op, int(y), int(result)), (int(x2), op2, int(y2), int(result2))


def canonical_chain(first: Step, second: Step) -> str:
    """Return the chain as text in canonical form, so that equal solutions compare equal.

    In each step the larger operand of + and * comes first.
    """
    return f"{canonical(*first)},{canonical(*second)}"


def is_correct(numbers: Counter[int], target: int, chain: tuple[Step, Step]) -> bool:
    """Return whether the chain follows the rules of ``ChainVerifier`` and results in ``target``."""
    first, second = chain
    operands = Counter((first[0], first[2]))
    unused = numbers - operands
    if operands - numbers or second[3] != target:
        return False
    if not (_is_true(first) and _is_true(second)):
        return False
    x, _, y, _ = second
    between = first[3]
    return (x == between and unused[y] > 0) or (y == between and unused[x] > 0)


def _is_true(step: Step) -> bool:
    x, op, y, result = step
    return apply(x, op, y) == result <= LARGEST


class ChainVerifier:
    """Verifies answers of chain countdown; a reference is ``numbers>target``, e.g. ``12,9,4,1>60``.

    A correct answer has two steps. The first is one of + - * / on two of the four numbers, the
    second one on the result of the first and a third of the numbers, in either order. Each number
    is used at most as often as it is among the four. x-y needs x > y, a division must be exact,
    every result must be true and at most 99, and the last one is the target.
    """

    def score(
        self, completions: Sequence[str], references: Sequence[str], truncated: Sequence[bool]
    ) -> list[Verdict]:
        """Return a verdict for each completion: a chain of steps to the target, or not.

        Raises ``ValueError`` for a reference that is not four numbers and a target, such as
        ``3,5,7,2>24``.
        """
        check_lengths(completions, references, truncated)
        return [
            TRUNCATED if cut else self._verify(text, reference)
            for text, reference, cut in zip(completions, references, truncated, strict=True)
        ]

    def close(self) -> None:
        pass

    @staticmethod
    def _verify(completion: str, reference: str) -> Verdict:
        numbers_and_target = _REFERENCE.fullmatch(reference)
        if numbers_and_target is None:
            raise ValueError(f"reference answer {reference!r} is not of the form 12,9,4,1>60")
        if len(completion) > MAX_CHARS:
            return Verdict(0.0, Kind.UNPARSEABLE, detail=f"longer than {MAX_CHARS} characters")
        if not completion.strip():
            return Verdict(0.0, Kind.NO_ANSWER)
        chain = parse_chain(completion)
        if chain is None:
            detail = "not two steps, each one operation on two numbers and its result"
            return Verdict(0.0, Kind.UNPARSEABLE, detail=detail)
        numbers, target = (
            Counter(map(int, numbers_and_target[1].split(","))),
            int(numbers_and_target[2]),
        )
        correct = is_correct(numbers, target, chain)
        kind = Kind.CORRECT if correct else Kind.WRONG
        return Verdict(float(correct), kind, canonical_chain(*chain))
