"""A user's scorer by import path, in the same jail as every other scorer."""

import importlib.util
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from asym_lightning.checks import Count, Positive, validated
from asym_lightning.types import FieldError, Kind, PartError, Verdict
from asym_lightning.verify import jail
from asym_lightning.verify.pool import WorkerPool

Target = Annotated[
    str,
    Field(
        pattern=r"^[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*$",
        description="an import path module:function",
    ),
]


def within(text: str, max_chars: int) -> str | Verdict:
    """Return the text, or the verdict on a text of more than ``max_chars`` characters."""
    if len(text) <= max_chars:
        return text
    detail = f"{len(text)} characters; at most {max_chars} are looked at"
    return Verdict(0.0, Kind.UNPARSEABLE, detail=detail)


def require_kernel(what: str) -> None:
    """Raise ``PartError`` where the kernel's jail does not hold; ``what`` names the scorer."""
    obstacle = jail.obstacle()
    if obstacle:
        raise PartError(
            f"{what} runs only inside the kernel's jail, which cannot be set up here: {obstacle}"
        )


@validated
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
        FieldError: a value that cannot work, or a missing module.
        PartError: no jail on this machine.
    """

    def __init__(
        self,
        target: Target,
        timeout_s: Positive = 5.0,
        workers: Count = 2,
        memory_gb: Positive = 4.0,
        max_chars: Count = 100_000,
        threshold: float = 0.0,
        needs_jail: bool = True,
    ) -> None:
        try:
            spec = importlib.util.find_spec(target.partition(":")[0])
        except (ImportError, ValueError):
            spec = None
        if spec is None:
            raise FieldError(f"target={target}: there is no such module on the import path")
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
        return self.pool.score_found(self._find, completions, references, truncated)

    def _find(self, completion: str) -> str | Verdict:
        """Return the text for the worker, or the verdict where it is too long."""
        return within(completion, self.max_chars)

    def close(self) -> None:
        """Kill the workers; the next ``score`` starts new ones."""
        self.pool.close()
