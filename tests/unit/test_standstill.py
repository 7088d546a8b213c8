"""The rank that is named when several are idle, and the message about it."""

import pytest

from asym_lightning.runtime.watch.reports import Cause, Report, message, standstill
from asym_lightning.types import ConfigError
from callbacks.watchdog import Watchdog


def test_the_rank_that_others_wait_for_is_the_one_that_stands_still() -> None:
    waits = Report(0, "learn", 3, idle_s=20.0, where="policy.py:1 in step", waiting=True)
    stuck = Report(1, "verify", 3, idle_s=15.0, where="mine.py:7 in score")
    assert standstill([waits, stuck], 16.0) is None, "a rank has made progress"
    cause = standstill([waits, stuck], 10.0)
    assert cause is not None and (cause.rank, cause.kind) == (1, "stalled")
    assert message(cause, [waits, stuck]) == (
        "rank 1 stands still (phase verify, iteration 3, at mine.py:7 in score): "
        "no rank has made progress for 10 s (callbacks.watchdog.limit_s); "
        "rank 0 waited in learn, iteration 3, at policy.py:1 in step"
    )


@pytest.mark.parametrize(
    ("first", "second", "culprit"),
    [
        # Both wait: the rank that is behind.
        ({"phase": "learn", "waiting": True}, {"phase": "sync", "waiting": True}, 1),
        ({"phase": "log", "iteration": 2}, {"phase": "sync", "iteration": 3}, 0),
        # Both in one phase: the rank that is idle for longest.
        ({"phase": "learn", "idle_s": 30.0}, {"phase": "learn", "idle_s": 40.0}, 1),
        # A silent rank: its last report says nothing about its present state.
        ({"phase": "learn", "silent_s": 15.0, "waiting": True}, {"phase": "generate"}, 0),
        ({"phase": "learn"}, {"phase": "start", "state": "done"}, 0),
    ],
)
def test_of_several_that_are_idle_one_is_named(first: dict, second: dict, culprit: int) -> None:
    states = ({"idle_s": 20.0} | first, {"idle_s": 20.0} | second)
    cause = standstill([Report(rank, **state) for rank, state in enumerate(states)], 10.0)
    assert cause is not None and cause.rank == culprit


def test_a_run_whose_ranks_are_done_does_not_stand_still() -> None:
    reports = [Report(rank, state="done", idle_s=99.0) for rank in (0, 1)]
    assert standstill(reports, 10.0) is None


def test_many_waiting_ranks_are_one_clause() -> None:
    others = [Report(rank, "generate", 3, idle_s=2.0) for rank in (0, 1, 3, 4, 5, 7)]
    said = message(Cause(2, "died", "killed by SIGKILL"), [*others, Report(2, "learn", 3)])
    assert said == (
        "rank 2 has died (phase learn, iteration 3; killed by SIGKILL); "
        "ranks 0-1, 3-5, 7 waited in generate, iteration 3"
    )
    places = [Report(rank, "learn", rank) for rank in range(1, 8)]
    end = "rank 4 was in learn, iteration 4; and 3 more places"
    assert message(Cause(0, "died"), places).endswith(end)
    assert message(Cause(-1, "died"), []).startswith("the launcher of this run")


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^limit_s=0: must be "):
        Watchdog(limit_s=0)
