"""A count of the answers whose verification failed: one is shown, too many stop the run."""

import logging
from collections.abc import Sequence

import torch

from asym_lightning.checks import Share, validated
from asym_lightning.runtime.log import ALL_RANKS
from asym_lightning.runtime.ranks import reduce_over_ranks
from asym_lightning.types import Kind, Verdict

log = logging.getLogger(__name__)
_SHOWN_CHARS = 80


class VerificationError(RuntimeError):
    """More answers of an iteration could not be verified than the run allows."""


@validated
class Failures:
    """Counts the kind ``error`` over the verdicts of an iteration.

    ``max_verify_errors`` is the largest share of them with which the run goes on.
    """

    def __init__(self, max_verify_errors: Share) -> None:
        self._max_share = max_verify_errors
        self._failed = self._scored = 0
        self._example = ""

    def add(
        self, completions: Sequence[str], references: Sequence[str], verdicts: Sequence[Verdict]
    ) -> None:
        """Count the verdicts and keep the first failure as an example."""
        self._scored += len(verdicts)
        for completion, answer, verdict in zip(completions, references, verdicts, strict=True):
            if verdict.kind is not Kind.ERROR:
                continue
            self._failed += 1
            if not self._example:
                reference, end = answer[:_SHOWN_CHARS], completion[-_SHOWN_CHARS:]
                self._example = (
                    f"{verdict.detail}; reference {reference!r}, completion ends {end!r}"
                )

    def settle(self) -> None:
        """End an iteration, on every rank: log one line where answers failed.

        Raises ``VerificationError`` for too many failures.
        """
        counts = reduce_over_ranks(torch.tensor([self._failed, self._scored]), "sum")
        failed, scored = (int(count) for count in counts)
        example, self._example = self._example, ""
        self._failed = self._scored = 0
        summary = f"{failed} of {scored} answers could not be verified"
        if scored and failed / scored > self._max_share:
            allowed = f"more than callbacks.rollout.max_verify_errors={self._max_share:g} allows"
            shown = example or "the other ranks show an example"
            raise VerificationError(f"{summary}, {allowed}: {shown}")
        if example:
            log.info(f"{summary}, e.g.: {example}", extra=ALL_RANKS)
