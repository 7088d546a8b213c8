"""The phase of the run that this process is in, as the watchdog reports it."""

import threading
from dataclasses import dataclass, field


@dataclass
class TrainingState:
    """The state of the training thread.

    Args:
        phase: name of the current phase, as in ``time/{phase}`` where that is measured.
        iteration: as in ``metrics.csv``.
        marks: number of signs of progress so far.
        thread: id of the training thread.
        changed: set when a phase begins.
    """

    phase: str = "start"
    iteration: int = 0
    marks: int = 0
    thread: int = field(default_factory=threading.get_ident)
    changed: threading.Event = field(default_factory=threading.Event)


training_state = TrainingState()


def mark(phase: str | None = None) -> None:
    """Record progress; any thread may call this.

    Args:
        phase: the phase that begins. Only the training thread can begin a phase.
    """
    training_state.marks += 1
    if phase is not None and threading.get_ident() == training_state.thread:
        training_state.phase = phase
        training_state.changed.set()


def begin(iteration: int) -> None:
    """Record that this thread trains, and that its run starts at ``iteration``."""
    training_state.thread, training_state.iteration = threading.get_ident(), iteration
    mark("start")
