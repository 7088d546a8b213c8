"""Where this process is in its run, for a watch to tell should nothing go on any more."""

import threading
from dataclasses import dataclass, field


@dataclass
class Whereabouts:
    """What the thread that trains does.

    Args:
        phase: its name, as in ``time/{phase}`` where that is measured.
        iteration: as in ``metrics.csv``.
        marks: signs of progress so far.
        thread: the one that trains.
        changed: set when a phase begins.
    """

    phase: str = "start"
    iteration: int = 0
    marks: int = 0
    thread: int = field(default_factory=threading.get_ident)
    changed: threading.Event = field(default_factory=threading.Event)


here = Whereabouts()


def mark(phase: str | None = None) -> None:
    """Tell that work goes on, which any thread may; where ``phase`` is given, and this is the thread that trains, that the phase begins."""
    here.marks += 1
    if phase is not None and threading.get_ident() == here.thread:
        here.phase = phase
        here.changed.set()


def begin(iteration: int) -> None:
    """This thread trains, and is at the start of a run, from this iteration on."""
    here.thread, here.iteration = threading.get_ident(), iteration
    mark("start")
