"""The problems of an iteration: the order without a filter, and the filter by past accuracy."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from asym_lightning.learner.datamodule import RolloutDataModule
from asym_lightning.metrics.rollouts import measure_difficulty
from asym_lightning.runtime.meter import Meter
from asym_lightning.tasks.order import Difficulty, ProblemOrder
from asym_lightning.types import ConfigError
from tests.support.difficulty import data, group, observe, served

# A group without a correct rollout, or with correct ones only, is out of range.
EDGES = Difficulty(0.1, 0.9, groups=1)


# The problems of the first iterations, as they were before there was a filter.
FIRST_PASSES = [[4, 5, 0, 1], [2, 8, 3, 6], [9, 7, 1, 9], [5, 6, 4, 3], [8, 0, 2, 7], [4, 6, 9, 0]]


def test_without_a_filter_the_order_is_what_it_was() -> None:
    module = data()
    for iteration, want in enumerate(FIRST_PASSES):
        assert served(module, iteration) == want
        observe(module, dict.fromkeys(want, 4))
    assert [number for number, _ in module.prompts(2, 1, 2)] == [9, 11]
    assert served(module, 2, 1, world=2) == [7, 9]
    assert served(module, 0) == FIRST_PASSES[0], "any iteration may be asked for"
    spare = [int(prompt.problem.id) for _, prompt in module.spare_prompts(6, 0, 1)]
    assert spare == [6, 3, 5, 2, 9, 2]
    assert module.state_dict() == {"spare": 6, "order": {}}


def test_a_filter_that_has_seen_nothing_changes_nothing_within_a_pass() -> None:
    module = data(EDGES)
    assert [served(module, i) for i in range(2)] == FIRST_PASSES[:2]
    assert served(module, 2) == [9, 7, 1, 5], "none twice in an iteration"


def test_accuracy_by_hand() -> None:
    two = Difficulty(0.25, 0.75, groups=2)
    # Correct rollouts of each group of four -> distance from the range.
    by_hand = {(): 0, (0,): 0, (0, 1): -0.125, (0, 2): 0, (4, 2): 0, (4, 4): 0.25}
    for correct, off in by_hand.items():
        assert two.off([(r, 4) for r in correct]) == pytest.approx(off), correct
    assert Difficulty(max_accuracy=0.5, groups=1).off([(0, 4)]) == 0 and not Difficulty().active


def test_what_is_solved_or_never_solved_is_left_out() -> None:
    module = data(EDGES)
    assert served(module, 0) == [4, 5, 0, 1]
    observe(module, {4: 4, 5: 0, 0: 3, 1: 1})
    assert served(module, 1) == [2, 8, 3, 6]
    observe(module, {2: 2, 8: 4, 3: 2, 6: 2})
    # 4, 5 and 8 are left out; the passes go on as 9 7 | 1 9 5 6 4 3 8 0 2 7 | 4 6 9 0.
    assert served(module, 2) == [9, 7, 1, 6]
    assert served(module, 2) == [9, 7, 1, 6], "asked again"
    assert module.order.out_of_range() == (2, 1, 10)
    assert served(module, 3) == [3, 0, 2, 7]
    assert served(module, 4)[:3] == [6, 9, 0] and not module.order.note


def test_the_last_groups_count() -> None:
    module = data(Difficulty(0.1, 0.9, groups=2))
    observe(module, {1: 0, 2: 4})
    assert module.order.out_of_range() == (0, 0, 10), "one group says too little"
    observe(module, {1: 0, 2: 4})
    assert module.order.out_of_range() == (1, 1, 10)
    observe(module, {1: 2})
    assert module.order.out_of_range() == (1, 0, 10), "in range again by its last two"


def test_spares_are_drawn_from_what_is_left() -> None:
    module = data(EDGES)
    observe(module, {i: 4 for i in range(10) if i not in (3, 7)})
    drawn = [prompt.problem.id for _, prompt in module.spare_prompts(20, 0, 1)]
    assert set(drawn) == {"3", "7"}
    observe(module, {3: 0, 7: 0})
    # No problem is left: all of them are drawn from.
    assert len({prompt.problem.id for _, prompt in module.spare_prompts(40, 0, 1)}) > 5


def test_too_few_are_filled_up_with_the_nearest_and_said_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = data(Difficulty(0.3, 0.7, groups=1))
    observe(module, {0: 4, 1: 4, 2: 4, 3: 4, 4: 4, 5: 0, 6: 0, 7: 1, 8: 2, 9: 3})
    # Only 8 is in range; 7 and 9 are .05 away, the others .3.
    for iteration in range(3):
        got = served(module, iteration)
        assert {7, 8, 9} < set(got) and len(set(got)) == 4, got
        served(module, iteration, 1, world=2)
    assert module.order.readmitted == 3
    assert capsys.readouterr().out == (
        "data.difficulty leaves too few problems, 1 for the 4 prompts of an iteration: "
        "those nearest to the range are served all the same\n"
    )
    observe(module, dict.fromkeys(range(5), 2))
    assert set(served(module, 3)) <= {0, 1, 2, 3, 4, 8}
    assert not module.order.note
    assert module.order.readmitted == 0
    observe(module, dict.fromkeys(range(10), 4))
    later = Counter(problem for iteration in range(4, 44) for problem in served(module, iteration))
    assert len(later) == 10, "where all are as far away, all have their turns"


def test_an_iteration_larger_than_a_pass() -> None:
    module = data(EDGES, size=24)
    assert Counter(served(module, 0)).most_common(1)[0][1] == 3
    assert len(set(served(module, 0))) == 10
    observe(module, dict.fromkeys(range(1, 10), 4))
    got = Counter(served(module, 1))
    assert got[0] == 3 and sum(got.values()) == 24 and max(got.values()) == 3


def test_a_share_of_the_turns_is_kept() -> None:
    shares = {}
    for share in (0.0, 0.25, 1.0):
        module = data(Difficulty(0.1, 0.9, groups=1, retry_share=share), size=1)
        observe(module, {0: 4, 1: 0})
        turns = Counter(served(module, iteration)[0] for iteration in range(2000))
        shares[share] = (turns[0] + turns[1]) / (turns[2] + turns[3])
        again = data(Difficulty(0.1, 0.9, groups=1, retry_share=share), size=1)
        observe(again, {0: 4, 1: 0})
        assert Counter(served(again, iteration)[0] for iteration in range(2000)) == turns
    assert shares[0.0] == 0
    assert shares[1.0] == pytest.approx(1, abs=0.01)
    assert shares[0.25] == pytest.approx(0.25, abs=0.06)


def test_a_problem_that_is_listed_several_times_is_one() -> None:
    order = ProblemOrder(["a", "b", "a", "c"], 0, EDGES)
    order.observe([group("a", 4), group("c", 1)])
    assert order.out_of_range() == (1, 0, 3)
    given = [order.ids[i] for iteration in range(4) for i in order.iteration(iteration, 2)]
    assert given.count("a") == 0


def test_metrics_by_hand() -> None:
    module, meter = data(EDGES), Meter()
    observe(module, {0: 4, 1: 4, 2: 0, 3: 1})
    served(module, 0)
    measure_difficulty(module.order, 4, meter)
    got = meter.compute(lambda tensor, how: tensor, torch.device("cpu"))
    assert got == {"data/too_easy": 0.2, "data/too_hard": 0.1, "data/readmitted": 0.0}


def lived(module: RolloutDataModule, iterations: Sequence[int]) -> list[list[int]]:
    """Run iterations and return the problems of each.

    A group of problem p has p - 3 correct rollouts, and one more after every four iterations.
    """
    found = []
    for iteration in iterations:
        problems = served(module, iteration)
        observe(module, {p: min(4, max(0, p - 3 + iteration // 4)) for p in problems})
        found.append(problems)
    return found


def test_a_resumed_run_has_the_same_order(tmp_path: Path) -> None:
    settings = Difficulty(0.1, 0.9, groups=2, retry_share=0.3)
    uninterrupted, half = data(settings), data(settings)
    want = lived(uninterrupted, range(30))
    assert lived(half, range(13)) == want[:13] != [served(data(), i) for i in range(13)]
    torch.save(half.state_dict(), tmp_path / "state.pt")
    resumed = data(settings)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert lived(resumed, range(13, 30)) == want[13:]
    assert resumed.state_dict() == uninterrupted.state_dict()
    assert resumed.spare_prompts(9, 0, 1) == uninterrupted.spare_prompts(9, 0, 1)


def test_a_filter_that_is_turned_on_at_a_resume_begins_where_the_run_stood() -> None:
    begun = data()
    assert [served(begun, i) for i in range(2)] == FIRST_PASSES[:2]
    module = data(EDGES)
    module.load_state_dict(begun.state_dict())
    assert served(module, 2) == [9, 7, 1, 5]
    # The state of a run from before there was a filter.
    module.load_state_dict({"spare": 0})
    assert served(module, 2) == [9, 7, 1, 5]
    other = data(EDGES)
    order = {"position": 8, "seen": {"gone": [[4, 4]], "7": [[4, 4]]}}
    other.load_state_dict({"spare": 0, "order": order})
    assert served(other, 2) == [9, 1, 5, 6] and other.order.out_of_range() == (1, 0, 10)


def test_values_that_cannot_be() -> None:
    for values in (
        {"min_accuracy": 1.5},
        {"max_accuracy": "all"},
        {"groups": 0},
        {"retry_share": -1},
        {"min_accuracy": 0.5, "max_accuracy": 0.5},
    ):
        with pytest.raises(ConfigError, match=r"^\w+=.* must be "):
            Difficulty(**values)  # type: ignore[arg-type]
