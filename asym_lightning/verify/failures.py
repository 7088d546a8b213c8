"""Keeps an eye on answers whose verification failed: a few are shown, too many stop the run."""

from collections.abc import Sequence

import torch

from asym_lightning.checks import number
from asym_lightning.runtime.ranks import over_ranks
from asym_lightning.types import Kind, Verdict

_SHOWN_CHARS = 80


class VerificationError(RuntimeError):
    """More answers of an iteration could not be verified than the run allows."""


class Failures:
    """Counts the kind ``error`` over the verdicts of an iteration.

    ``most``: the share of them at which the run goes on at the most. Raises ``ConfigError`` unless it is from 0 to 1.
    """

    def __init__(self, most: float) -> None:
        number("callbacks.rollout.max_verify_errors", most, 0, 1)
        self._most = most
        self._failed = self._scored = 0
        self._example = ""

    def add(self, completions: Sequence[str], answers: Sequence[str], verdicts: Sequence[Verdict]) -> None:
        """Take note of verdicts and of what was judged."""
        self._scored += len(verdicts)
        for completion, answer, verdict in zip(completions, answers, verdicts, strict=True):
            if verdict.kind is Kind.ERROR:
                self._failed += 1
                shown = repr(completion[-_SHOWN_CHARS:])
                self._example = self._example or f"{verdict.detail}; reference {answer[:_SHOWN_CHARS]!r}, completion ends {shown}"

    def settle(self) -> None:
        """End an iteration, on every rank: print one line where there were failures. Raises ``VerificationError`` for too many."""
        failed, scored = (int(n) for n in over_ranks(torch.tensor([self._failed, self._scored]), "sum"))
        example, self._example = self._example, ""
        self._failed = self._scored = 0
        if scored and failed / scored > self._most:
            allowed = f"more than callbacks.rollout.max_verify_errors={self._most:g} allows"
            shown = example or "the other ranks show one"
            raise VerificationError(f"{failed} of {scored} answers could not be verified, {allowed}: {shown}")
        if example:
            print(f"{failed} of {scored} answers could not be verified, e.g.: {example}", flush=True)
