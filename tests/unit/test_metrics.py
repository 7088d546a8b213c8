"""Metrics against numbers worked out by hand."""

import pytest
import torch

from asym_lightning.metrics.evaluation import EvaluationMetric
from asym_lightning.metrics.passk import pass_at_k
from asym_lightning.metrics.rollouts import measure_groups
from asym_lightning.runtime.meter import Meter
from asym_lightning.types import Completion, Kind, Problem, Prompt, RolloutGroup, Verdict
from tests.support.metrics import RIGHT, WRONG, compute, group

CUT = Verdict(0.0, Kind.TRUNCATED)


def test_pass_at_k_by_hand() -> None:
    assert pass_at_k(8, 2, 1) == 0.25
    assert pass_at_k(4, 1, 2) == 0.5  # 1 - C(3,2)/C(4,2) = 1 - 3/6
    assert pass_at_k(4, 0, 4) == 0.0 and pass_at_k(4, 3, 2) == 1.0
    with pytest.raises(ValueError, match="pass@5"):
        pass_at_k(4, 1, 5)


def test_rollout_metrics_by_hand() -> None:
    meter = Meter()
    measure_groups([group(RIGHT, WRONG, CUT, RIGHT), group(WRONG, WRONG, WRONG, CUT)], meter)
    got = compute(meter)
    assert got["reward/mean"] == 0.25 and got["reward/std"] == 0.25  # population std: .5 and 0
    assert (got["solved/none"], got["solved/mixed"], got["solved/all"]) == (0.5, 0.5, 0.0)
    assert got["length/max"] == 4 and got["length/mean"] == 2.5 and got["length/truncated"] == 0.25
    assert got["verify/correct"] == 0.25
    assert got["verify/wrong"] == 0.5
    assert got["verify/truncated"] == 0.25
    assert sum(value for name, value in got.items() if name.startswith("verify/")) == 1.0


def test_the_share_of_rewarded_answers_of_another_text_by_hand() -> None:
    def judged(kind: Kind, text: str, reference: str) -> Verdict:
        return Verdict(float(kind is Kind.CORRECT), kind, reference, text=text, reference=reference)

    right, wrong = Kind.CORRECT, Kind.WRONG
    # Four right answers with a text; white space is not another text, its place within a word is.
    first = group(
        judged(right, "0.5", "1/2"), judged(right, " 1  2\n", "1 2"), judged(wrong, "3", "4"), RIGHT
    )
    second = group(judged(right, "12", "1 2"), judged(right, "7", "7"), CUT, WRONG)
    meter = Meter()
    measure_groups([first, second], meter)
    got = compute(meter)
    assert got["verify/rewarded_other_text"] == 2 / 4 and got["verify/correct"] == 5 / 8
    measure_groups([group(RIGHT, judged(wrong, "3", "4"))], meter)
    assert "verify/rewarded_other_text" not in compute(meter), "no right answer has a text"


def test_accuracy_pass_at_k_and_lengths_by_hand() -> None:
    meter = Meter()
    # Accuracies 1/2, 0 and 1; correct rollouts are 1, 4 and 1 to 4 tokens long.
    mixed, unsolved = group(RIGHT, WRONG, CUT, RIGHT), group(WRONG, WRONG, WRONG, CUT)
    measure_groups([mixed, unsolved, group(RIGHT, RIGHT, RIGHT, RIGHT)], meter)
    got = compute(meter)
    quarters = [got[f"accuracy/p_{edge}"] for edge in ("0.00", "0.25", "0.50", "0.75")]
    assert quarters == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3])
    assert got["train/pass@1"] == pytest.approx(0.5) and got["train/pass@4"] == pytest.approx(2 / 3)
    assert got["train/pass@2"] == pytest.approx((5 / 6 + 0 + 1) / 3)  # 1 - C(2,2)/C(4,2)
    assert got["length/correct"] == pytest.approx(15 / 6)
    assert got["length/wrong"] == pytest.approx(15 / 6)


def test_diversity_by_hand() -> None:
    def of(*rows: list[int], verdicts: list[Verdict]) -> RolloutGroup:
        completions = [Completion(ids, [0.0] * len(ids), "", truncated=False) for ids in rows]
        return RolloutGroup(Prompt(Problem("p", "", ""), (1,)), completions, verdicts)

    other = Verdict(1.0, Kind.CORRECT, "2*1")
    meter = Meter()
    # Five pairs 12 23, 12 24, 12, and three different ones: 12, 23, 24.
    # The second group has no pair, and one correct answer twice.
    first = of([1, 2, 3], [1, 2, 4], [1, 2], verdicts=[RIGHT, other, WRONG])
    measure_groups([first, of([1], [1], [2], verdicts=[RIGHT, RIGHT, CUT])], meter)
    got = compute(meter)
    assert got["diversity/distinct_correct"] == 1.5
    assert got["diversity/distinct_2"] == pytest.approx(3 / 5)


def test_evaluation_by_hand() -> None:
    metric = EvaluationMetric(4)
    metric.update(group(RIGHT, WRONG, WRONG, CUT))
    metric.update(group(RIGHT, RIGHT, WRONG, WRONG))
    got = metric.compute()
    assert got["pass@2"] == pytest.approx((1 / 2 + 5 / 6) / 2)
    assert got["avg@4"] == got["pass@1"] == 3 / 8 and got["pass@4"] == 1
    # The first group's majority is wrong; a tie goes to the answer that came first.
    assert got["maj@4"] == 1 / 2
    assert got["distinct_correct"] == 1
    assert got["length/mean"] == 2.5
    assert got["length/truncated"] == 1 / 8
    assert got["verify/correct"] == 3 / 8 and got["verify/truncated"] == 1 / 8
    assert sum(value for name, value in got.items() if name.startswith("verify/")) == 1


def test_a_mean_is_by_counts_and_nothing_is_not_a_number() -> None:
    meter = Meter()
    meter.mean("a", torch.tensor(6.0), 2)
    meter.mean("a", 1.0, torch.tensor(5))
    meter.mean("nothing", 0.0, 0)
    meter.maximum("top", torch.tensor([1.0, 3.0]))
    meter.maximum("top", torch.zeros(0))
    assert compute(meter) == {"a": 1.0, "top": 3.0}
    assert compute(meter) == {}


def test_covariance_by_accuracy_by_hand() -> None:
    def with_logprobs(verdicts: list[Verdict], logprobs: list[list[float]]) -> RolloutGroup:
        completions = [Completion([1] * len(lp), lp, "", truncated=False) for lp in logprobs]
        return RolloutGroup(Prompt(Problem("p", "", ""), (1,)), completions, verdicts)

    meter = Meter()
    # Lengths have no weight.
    quarter = with_logprobs([RIGHT, WRONG, WRONG, WRONG], [[-1.0, -3.0], [-1.0], [-2.0], [-3.0]])
    half = with_logprobs([RIGHT, WRONG], [[-1.0], [-4.0]])
    measure_groups([quarter, quarter], meter)
    assert compute(meter)["covariance/p_0.25"] == 0.0  # 2 * 1/4 * 3/4 * (-2 - -2)
    measure_groups([half], meter)
    got = compute(meter)
    # 2 * 1/2 * 1/2 * (-1 - -4); by hand also mean((lp - mean)(A - mean)) = 1.5 * 1
    assert got["covariance/p_0.50"] == 1.5
    measure_groups([with_logprobs([RIGHT, RIGHT], [[-1.0], [-4.0]])], meter)
    assert not [name for name in compute(meter) if name.startswith("covariance")]
