"""A user's scorer by import path, in the same jail as every other scorer."""

import importlib.util
import re
from collections.abc import Callable, Sequence

from asym_lightning.types import ConfigError, Kind, Verdict
from asym_lightning.verify import jail
from asym_lightning.verify.base import TRUNCATED, check_lengths
from asym_lightning.verify.pool import WorkerPool

_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def score_in(
    pool: WorkerPool,
    find: Callable[[str], str | None],
    completions: Sequence[str],
    *,
    references: Sequence[str],
    truncated: Sequence[bool],
    max_chars: int,
) -> list[Verdict]:
    """Return a pool's verdicts on the text that ``find`` takes from each completion.

    A text of ``None`` has the kind ``no_answer``, a text above ``max_chars`` ``unparseable``.
    """
    check_lengths(completions, references, truncated)

    def text_or_verdict(completion: str, cut: bool) -> str | Verdict:
        if cut:
            return TRUNCATED
        text = find(completion)
        if text is None:
            return Verdict(0.0, Kind.NO_ANSWER)
        if len(text) > max_chars:
            detail = f"{len(text)} characters; at most {max_chars} are looked at"
            return Verdict(0.0, Kind.UNPARSEABLE, detail=detail)
        return text

    items = [text_or_verdict(text, cut) for text, cut in zip(completions, truncated, strict=True)]
    return pool.score_texts(items, references)


def require_kernel(what: str) -> None:
    """Raise ``ConfigError`` where the kernel's jail does not hold; ``what`` names the scorer."""
    obstacle = jail.obstacle()
    if obstacle:
        raise ConfigError(
            f"task.verify: {what} runs only inside the kernel's jail, "
            f"which cannot be set up here: {obstacle}"
        )


class FunctionVerifier:
    """Scores completions with a user's function of a completion and its reference answer.

    ``function(completion, answer)`` returns a reward or ``(reward, parsed answer)``. Its module is
    imported in the jailed worker, before the jail closes: the function can compute, and read files
    beside its module, but cannot write files, open a socket or start a program. An exception in it
    becomes the kind ``error``.

    Args:
        target: ``module:function``.
        timeout_s: seconds per completion; then its worker is killed and replaced.
        workers: processes, per rank.
        memory_gb: address space of a worker (GiB).
        max_chars: a longer completion is ``unparseable``.
        threshold: a reward above it has the kind ``correct``.
        needs_jail: refuse to run where the kernel's jail cannot be set up. False is for functions
            that evaluate nothing.

    Raises:
        ConfigError: a value that cannot work, a missing module, or no jail on this machine.
    """

    def __init__(
        self,
        target: str,
        timeout_s: float = 5.0,
        workers: int = 2,
        memory_gb: float = 4.0,
        max_chars: int = 100_000,
        threshold: float = 0.0,
        needs_jail: bool = True,
    ) -> None:
        if not _TARGET.fullmatch(target):
            raise ConfigError(f"task.verify.target={target} must be an import path module:function")
        if max_chars <= 0:
            raise ConfigError(f"task.verify.max_chars={max_chars} must be above 0")
        try:
            spec = importlib.util.find_spec(target.partition(":")[0])
        except (ImportError, ValueError):
            spec = None
        if spec is None:
            raise ConfigError(
                f"task.verify.target={target}: there is no such module on the import path"
            )
        if needs_jail:
            require_kernel(f"the function {target}")
        self.max_chars = max_chars
        self.pool = WorkerPool(
            "asym_lightning.verify.function_scorer:make_function",
            {"target": target, "threshold": threshold},
            timeout_s,
            workers=workers,
            memory_gb=memory_gb,
            needs_kernel=needs_jail,
        )

    def score(
        self, completions: Sequence[str], references: Sequence[str], truncated: Sequence[bool]
    ) -> list[Verdict]:
        """See ``Verifier.score``. Raises ``RuntimeError`` when the workers cannot start."""
        return score_in(
            self.pool,
            lambda text: text,
            completions,
            references=references,
            truncated=truncated,
            max_chars=self.max_chars,
        )

    def close(self) -> None:
        """Kill the workers; the next ``score`` starts new ones."""
        self.pool.close()
