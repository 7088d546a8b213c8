"""What the ranks of a run say of themselves, and which of them it is that a run ends of. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

PHASES = ("start", "evaluation", "rollout", "sync", "wait", "generate", "verify", "score", "learn", "log", "checkpoint", "end")
LISTED = 4  # different places of waiting ranks in a message
SILENT_S = 10.0  # a rank that is alive writes a report every second at least


@dataclass(frozen=True)
class Report:
    """What a rank does.

    Args:
        idle_s: seconds since its last sign of progress.
        where: file, line and function of the project or the user that the training thread is in, once it is idle.
        waiting: whether that thread is in, or may be in, a call that waits for other ranks.
        state: ``running``, ``failing`` (an exception is on its way out) or ``done``.
        pid, machine: its process; processes of the same machine see each other by pid.
        beat: counts its reports.
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
        """How far it is in the work that all ranks do in the same order."""
        return self.iteration, PHASES.index(self.phase) if self.phase in PHASES else len(PHASES)

    @property
    def place(self) -> str:
        return f"{self.phase}, iteration {self.iteration}" + (f", at {self.where}" if self.where else "")


@dataclass(frozen=True)
class Cause:
    """What a run ends of.

    Args:
        rank: the first one with this trouble; -1 is the launcher.
        kind: ``failed`` (``text``: its exception), ``died`` (``text``: how, where that is known), ``stalled``, ``silent`` (``stalled``, and
            it does not even report) or ``interrupted``.
    """

    rank: int
    kind: str
    text: str = ""

    @property
    def speaker(self) -> int:
        """The rank that tells it: the first one, unless it cannot."""
        return 1 if self.rank == 0 and self.kind in ("died", "silent") else 0


def standstill(reports: Sequence[Report], limit_s: float) -> Cause | None:
    """Of a run in which no rank made progress for ``limit_s``, the rank that the others wait for.

    It is one that no longer reports, else one that does not wait for others; of several the one that is furthest behind, and of those the
    one that has done nothing for longest.
    """
    there = [report for report in reports if report.state != "done"]
    if not there or min(report.idle_s for report in there) <= limit_s:
        return None
    silent = [report for report in there if report.silent_s > SILENT_S]
    suspects = silent or [report for report in there if not report.waiting] or there
    culprit = min(suspects, key=lambda report: (report.position, -report.idle_s))
    if silent:
        return Cause(culprit.rank, "silent", f"it has not been heard of for {culprit.silent_s:.0f} s, its host or its process is stuck")
    lazy = f"no rank has made progress for {limit_s:g} s (callbacks.watchdog.limit_s)" if len(reports) > 1 else ""
    return Cause(culprit.rank, "stalled", lazy or f"no progress for {limit_s:g} s (callbacks.watchdog.limit_s)")


def message(cause: Cause, reports: Sequence[Report]) -> str:
    """One line for people: which rank, its phase, what happened, and what the others waited in."""
    by_rank = {report.rank: report for report in reports}
    culprit = by_rank.get(cause.rank, Report(cause.rank))
    phase = f"phase {culprit.phase}, iteration {culprit.iteration}"
    if cause.rank < 0:
        said = "the launcher of this run, by whose store its ranks find each other, has ended"
    elif cause.kind == "failed":
        said = f"rank {cause.rank} failed ({phase}): {' '.join(cause.text.split())}"
    elif cause.kind == "died":
        said = f"rank {cause.rank} has died ({phase}{f'; {cause.text}' if cause.text else ''})"
    elif cause.kind in ("stalled", "silent"):
        said = f"rank {cause.rank} stands still (phase {culprit.place}): {cause.text}"
    else:
        said = f"rank {cause.rank} was {cause.kind} ({phase})"
    return "; ".join([said, *_others([by_rank[rank] for rank in sorted(by_rank) if rank != cause.rank])])


def _others(reports: Sequence[Report]) -> list[str]:
    places: dict[str, list[int]] = {}
    for report in reports:
        if report.state != "done":
            places.setdefault(f"{'waited' if report.waiting or report.idle_s >= 1 else 'was'} in {report.place}", []).append(report.rank)
    lines = [f"rank{'s' if len(ranks) > 1 else ''} {_listed(ranks)} {place}" for place, ranks in places.items()]
    return lines[:LISTED] + ([f"and {len(lines) - LISTED} more places"] if len(lines) > LISTED else [])


def _listed(ranks: Sequence[int]) -> str:
    """Ranks as text, neighbours as a range: 0, 2-7."""
    parts: list[list[int]] = []
    for rank in ranks:
        if parts and rank == parts[-1][-1] + 1:
            parts[-1].append(rank)
        else:
            parts.append([rank])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)
