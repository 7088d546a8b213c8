"""Chain countdown: two written steps, read by one pattern and computed in exact arithmetic, so that no answer is ever executed."""

import re
from collections import Counter
from collections.abc import Sequence

from asym_lightning.types import Kind, Verdict
from asym_lightning.verify.base import TRUNCATED, check_lengths
from asym_lightning.verify.countdown import MAX_CHARS, apply, canonical

LARGEST = 99  # of all results: every number up to here is one token
_STEP = r"\s*([0-9]+)\s*([-+*/])\s*([0-9]+)\s*=\s*([0-9]+)\s*"  # two numbers with a space between them are not one
_CHAIN = re.compile(f"{_STEP},{_STEP}", re.ASCII)
_REFERENCE = re.compile(r"((?:[0-9]+,){3}[0-9]+)>([0-9]+)", re.ASCII)

Step = tuple[int, str, int, int]  # x, operation, y, result


def parse_chain(text: str) -> tuple[Step, Step] | None:
    """The two steps of a chain like ``9-4=5,12*5=60`` (spaces allowed), or ``None`` where it is not one."""
    found = _CHAIN.fullmatch(text)
    if found is None:
        return None
    x, op, y, result, x2, op2, y2, result2 = found.groups()
    return (int(x), op, int(y), int(result)), (int(x2), op2, int(y2), int(result2))


def canonical_chain(first: Step, second: Step) -> str:
    """The chain as text, in each step the larger operand of + and * first, so that equal solutions compare equal."""
    return f"{canonical(*first)},{canonical(*second)}"


def is_right(numbers: Counter[int], target: int, first: Step, second: Step) -> bool:
    """Whether the chain keeps the rules of ``ChainVerifier`` and results in ``target``."""
    left = numbers - Counter((first[0], first[2]))
    if Counter((first[0], first[2])) - numbers or not all(_true(step) for step in (first, second)) or second[3] != target:
        return False
    x, _, y, _ = second
    between = first[3]
    return (x == between and left[y] > 0) or (y == between and left[x] > 0)


def _true(step: Step) -> bool:
    x, op, y, result = step
    return apply(x, op, y) == result <= LARGEST


class ChainVerifier:
    """Verifies answers of chain countdown; a reference answer is ``numbers>target``, e.g. ``12,9,4,1>60``.

    Right: two steps; the first is one of + - * / on two of the four numbers, the second on the result of the first and a third of the
    numbers, in either order, each number used as often as it is there at most; x-y only for x > y, division exact, every result true and
    at most 99, the last one the target.
    """

    def score(self, completions: Sequence[str], answers: Sequence[str], truncated: Sequence[bool]) -> list[Verdict]:
        """See ``Verifier.score``. Raises ``ValueError`` for a reference that is not ``n,n,n,n>target``."""
        check_lengths(completions, answers, truncated)
        return [TRUNCATED if cut else self._verify(text, answer) for text, answer, cut in zip(completions, answers, truncated, strict=True)]

    def close(self) -> None:
        pass

    @staticmethod
    def _verify(completion: str, answer: str) -> Verdict:
        reference = _REFERENCE.fullmatch(answer)
        if reference is None:
            raise ValueError(f"reference answer {answer!r} is not of the form 12,9,4,1>60")
        if len(completion) > MAX_CHARS:
            return Verdict(0.0, Kind.UNPARSEABLE, detail=f"longer than {MAX_CHARS} characters")
        if not completion.strip():
            return Verdict(0.0, Kind.NO_ANSWER)
        chain = parse_chain(completion)
        if chain is None:
            return Verdict(0.0, Kind.UNPARSEABLE, detail="not two steps, each one operation on two numbers and its result")
        right = is_right(Counter(map(int, reference[1].split(","))), int(reference[2]), *chain)
        return Verdict(float(right), Kind.CORRECT if right else Kind.WRONG, canonical_chain(*chain))
