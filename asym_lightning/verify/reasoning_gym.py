"""Verification of answers to the procedural tasks of reasoning-gym.

Several of its scorers evaluate the answer as code, so all of them run in the kernel's jail or not
at all.
"""

import importlib.util
import re
from collections.abc import Sequence

from asym_lightning.runtime import how_to_install
from asym_lightning.types import ConfigError, Verdict
from asym_lightning.verify.extract import last_boxed
from asym_lightning.verify.function import require_kernel, score_in
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
        ConfigError: a value that cannot work, reasoning-gym is missing, or the kernel's jail cannot
            be set up on this machine.
    """

    def __init__(
        self,
        timeout_s: float = 5.0,
        workers: int = 2,
        memory_gb: float = 4.0,
        max_chars: int = 10_000,
        threshold: float = 0.99,
    ) -> None:
        if max_chars <= 0:
            raise ConfigError(f"task.verify.max_chars={max_chars} must be above 0")
        if importlib.util.find_spec("reasoning_gym") is None:
            raise ConfigError(
                "task.verify: reasoning-gym, which scores these answers, is not installed: "
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
        return score_in(
            self.pool,
            find_answer,
            completions,
            references=references,
            truncated=truncated,
            max_chars=self.max_chars,
        )

    def close(self) -> None:
        """Kill the workers; the next ``score`` starts new ones."""
        self.pool.close()
