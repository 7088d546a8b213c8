"""Reports of the ranks, and the cause that ends a run. Pure functions on these."""

from collections.abc import Sequence
from dataclasses import dataclass

# The phases of an iteration, in the order of work.
PHASE_ORDER = (
    "start",
    "evaluation",
    "rollout",
    "sync",
    "wait",
    "generate",
    "verify",
    "score",
    "learn",
    "log",
    "checkpoint",
    "end",
)
LISTED = 4  # places of waiting ranks in a message
# Seconds without a report after which a rank is stuck: a live rank reports every second at least.
SILENT_S = 10.0


@dataclass(frozen=True)
class Report:
    """The state of a rank.

    Args:
        phase, iteration: see :class:`~asym_lightning.runtime.watch.phases.TrainingState`.
        idle_s: seconds since the rank's last sign of progress.
        where: file, line and function of the project or the user that the training thread is in,
            once it is idle.
        waiting: whether that thread is in, or may be in, a call that waits for other ranks.
        state: ``running``, ``failing`` (an exception ends its training) or ``done``.
        pid, machine: its process; processes of the same machine see each other by pid.
        beat: number of the report.
        silent_s: seconds since the last report, as its reader measures them.
    """

    rank: int
    phase: str = "start"
    iteration: int = 0
    idle_s: float = 0.0
    where: str = ""
    waiting: bool = False
    state: str = "running"
    pid: int = 0
    machine: str = ""
    beat: int = 0
    silent_s: float = 0.0

    @property
    def position(self) -> tuple[int, int]:
        """How far the rank is in the work that all ranks do in the same order."""
        phase = self.phase
        step = PHASE_ORDER.index(phase) if phase in PHASE_ORDER else len(PHASE_ORDER)
        return self.iteration, step

    @property
    def place(self) -> str:
        code = f", at {self.where}" if self.where else ""
        return f"{self.phase}, iteration {self.iteration}{code}"


@dataclass(frozen=True)
class Cause:
    """The cause that ends a run.

    Args:
        rank: the first rank with this trouble; -1 is the launcher.
        kind: ``failed`` (``text``: the exception), ``died`` (``text``: how, if that is known),
            ``stalled``, ``silent`` (``stalled``, and the rank does not report either) or
            ``interrupted``.
    """

    rank: int
    kind: str
    text: str = ""

    @property
    def speaker(self) -> int:
        """The rank that logs the error: rank 0, unless rank 0 cannot."""
        return 1 if self.rank == 0 and self.kind in ("died", "silent") else 0


def standstill(reports: Sequence[Report], limit_s: float) -> Cause | None:
    """Find the rank that the others wait for; None if a rank has made progress within ``limit_s``.

    It is a rank that no longer reports, else one that does not wait for others. Of several it is
    the rank furthest behind, and of those the rank that has been idle for longest.
    """
    active = [report for report in reports if report.state != "done"]
    if not active or min(report.idle_s for report in active) <= limit_s:
        return None
    silent = [report for report in active if report.silent_s > SILENT_S]
    suspects = silent or [report for report in active if not report.waiting] or active
    culprit = min(suspects, key=lambda report: (report.position, -report.idle_s))
    if silent:
        text = f"it has not reported for {culprit.silent_s:.0f} s; its host or its process is stuck"
        return Cause(culprit.rank, "silent", text)
    idle = "no rank has made progress" if len(reports) > 1 else "no progress"
    return Cause(culprit.rank, "stalled", f"{idle} for {limit_s:g} s (callbacks.watchdog.limit_s)")


def message(cause: Cause, reports: Sequence[Report]) -> str:
    """Return the error line: the rank, its phase, the trouble, and where the other ranks are."""
    by_rank = {report.rank: report for report in reports}
    culprit = by_rank.get(cause.rank, Report(cause.rank))
    phase = f"phase {culprit.phase}, iteration {culprit.iteration}"
    if cause.rank < 0:
        text = "the launcher of this run, by whose store its ranks find each other, has ended"
    elif cause.kind == "failed":
        text = f"rank {cause.rank} failed ({phase}): {' '.join(cause.text.split())}"
    elif cause.kind == "died":
        text = f"rank {cause.rank} has died ({phase}{f'; {cause.text}' if cause.text else ''})"
    elif cause.kind in ("stalled", "silent"):
        text = f"rank {cause.rank} stands still (phase {culprit.place}): {cause.text}"
    else:
        text = f"rank {cause.rank} was {cause.kind} ({phase})"
    others = [by_rank[rank] for rank in sorted(by_rank) if rank != cause.rank]
    return "; ".join([text, *_place_clauses(others)])


def _place_clauses(reports: Sequence[Report]) -> list[str]:
    """Say where each rank is (``place``: phase and call), in a clause for all ranks at a place.

    Args:
        reports: those of all ranks but the one that has failed or stands still.
    """
    places: dict[str, list[int]] = {}
    for report in reports:
        if report.state != "done":
            # A rank without a sign of progress for a second counts as waiting.
            verb = "waited" if report.waiting or report.idle_s >= 1 else "was"
            places.setdefault(f"{verb} in {report.place}", []).append(report.rank)
    clauses = [
        f"rank{'s' if len(ranks) > 1 else ''} {_listed(ranks)} {place}"
        for place, ranks in places.items()
    ]
    if len(clauses) > LISTED:
        return [*clauses[:LISTED], f"and {len(clauses) - LISTED} more places"]
    return clauses


def _listed(ranks: Sequence[int]) -> str:
    """Return ranks as text, neighbours as a range: 0, 2-7."""
    parts: list[list[int]] = []
    for rank in ranks:
        if parts and rank == parts[-1][-1] + 1:
            parts[-1].append(rank)
        else:
            parts.append([rank])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)
