"""Verification of answers to the procedural tasks of reasoning-gym.

Several of its scorers evaluate the answer as code, so all of them run in the kernel's jail or not
at all.
"""

import importlib.util
import re
from collections.abc import Sequence

from asym_lightning.checks import Count, Positive, validated
from asym_lightning.runtime import how_to_install
from asym_lightning.types import Kind, PartError, Verdict
from asym_lightning.verify.extract import last_boxed
from asym_lightning.verify.function import require_kernel, within
from asym_lightning.verify.pool import WorkerPool

_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def find_answer(completion: str) -> str | None:
    """Return the text for the scorer, or ``None`` where it is empty.

    It is the last ``<answer>...</answer>``, else the last ``\\boxed{}``, else the full completion.
    """
    start = completion.rfind("<answer>")
    tagged = _TAGGED.match(completion, start) if start >= 0 else None
    text = tagged.group(1) if tagged else last_boxed(completion)[0] or completion
    return text.strip() or None


@validated
class ReasoningGymVerifier:
    """Scores with the ``score_answer`` of the data set that generated the problem.

    The reference answer is the JSON text ``{"dataset": name, "entry": {...}}``. Rewards are those
    of the data set, from 0 to 1.

    Args:
        timeout_s: seconds per answer; then its worker is killed and replaced.
        workers: processes, per rank.
        memory_gb: address space of a worker (GiB).
        max_chars: a longer answer is ``unparseable``.
        threshold: a reward above it has the kind ``correct``; the reward itself stays as it is.

    Raises:
        FieldError: a value that cannot work.
        PartError: reasoning-gym is missing, or the kernel's jail cannot be set up on this machine.
    """

    def __init__(
        self,
        timeout_s: Positive = 5.0,
        workers: Count = 2,
        memory_gb: Positive = 4.0,
        max_chars: Count = 10_000,
        threshold: float = 0.99,
    ) -> None:
        if importlib.util.find_spec("reasoning_gym") is None:
            raise PartError(
                "reasoning-gym, which scores these answers, is not installed: "
                f"{how_to_install('gym')}"
            )
        require_kernel("a scorer of reasoning-gym")
        self.max_chars = max_chars
        self.pool = WorkerPool(
            "asym_lightning.verify.function_scorer:make_reasoning_gym",
            {"threshold": threshold},
            timeout_s,
            workers=workers,
            memory_gb=memory_gb,
            needs_kernel=True,
        )

    def score(
        self, completions: Sequence[str], references: Sequence[str], truncated: Sequence[bool]
    ) -> list[Verdict]:
        """See ``Verifier.score``. Raises ``RuntimeError`` when the workers cannot start."""
        return self.pool.score_found(self._find, completions, references, truncated)

    def _find(self, completion: str) -> str | Verdict:
        """Return the text for the worker, or the verdict where it is empty or too long."""
        text = find_answer(completion)
        return Verdict(0.0, Kind.NO_ANSWER) if text is None else within(text, self.max_chars)

    def close(self) -> None:
        """Kill the workers; the next ``score`` starts new ones."""
        self.pool.close()
