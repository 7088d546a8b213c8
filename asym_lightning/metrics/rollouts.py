"""What the rollouts of an iteration say: reward, accuracy, pass@k, diversity, lengths, covariance, outcomes of verification."""

from collections.abc import Sequence

import numpy as np
import torch

from asym_lightning.metrics.dynamics import BIN_EDGES, accuracy_bin
from asym_lightning.metrics.passk import pass_at_k, powers_of_two
from asym_lightning.runtime.meter import Meter
from asym_lightning.runtime.ranks import all_names
from asym_lightning.tasks.order import ProblemOrder
from asym_lightning.types import Kind, RolloutGroup


def measure_groups(groups: Sequence[RolloutGroup], meter: Meter) -> None:
    """Add this rank's groups to the iteration's means; rates are shares of rollouts, ``solved/*`` shares of prompts."""
    rewards = np.array([group.rewards for group in groups], dtype=np.float64)
    lengths = np.array([[len(c.token_ids) for c in group.completions] for group in groups])
    meter.mean("reward/mean", rewards.sum(), rewards.size)
    meter.mean("reward/std", rewards.std(axis=1).sum(), len(groups))
    right = np.array([[v.kind is Kind.CORRECT for v in group.verdicts] for group in groups])
    _measure_accuracy(right, meter)
    meter.mean("length/mean", lengths.sum(), lengths.size)
    meter.mean("length/correct", lengths[right].sum(), right.sum())
    meter.mean("length/wrong", lengths[~right].sum(), (~right).sum())
    meter.maximum("length/max", torch.from_numpy(lengths))
    meter.mean("length/truncated", sum(c.truncated for g in groups for c in g.completions), lengths.size)
    kinds = [verdict.kind for group in groups for verdict in group.verdicts]
    for kind in Kind:
        meter.mean(f"verify/{kind}", kinds.count(kind), len(kinds))
    verdicts = [verdict for group in groups for verdict in group.verdicts if verdict.parts]
    for name in all_names(name for verdict in verdicts for name in verdict.parts):
        values = [verdict.parts[name] for verdict in verdicts if name in verdict.parts]
        meter.mean(f"reward/part_{name}", sum(values), len(values))
    _measure_diversity(groups, meter)
    _measure_covariance(groups, meter)


def _measure_accuracy(right: np.ndarray, meter: Meter) -> None:
    """``solved/{none,all,mixed}`` and ``accuracy/p_{edge}``: shares of the prompts; ``train/pass@{k}``: unbiased, for k = 1, 2, 4 ... G."""
    (count, size), correct = right.shape, right.sum(1)
    meter.mean("solved/none", (correct == 0).sum(), count)
    meter.mean("solved/all", (correct == size).sum(), count)
    meter.mean("solved/mixed", ((correct > 0) & (correct < size)).sum(), count)
    bins = np.bincount(_bins(correct / size), minlength=len(BIN_EDGES))
    for edge, number in zip(BIN_EDGES, bins, strict=True):
        meter.mean(f"accuracy/p_{edge:.2f}", number, count)
    for k in powers_of_two(size):
        meter.mean(f"train/pass@{k}", sum(pass_at_k(size, int(c), k) for c in correct), count)


def _bins(accuracies: np.ndarray) -> np.ndarray:
    return accuracy_bin(torch.from_numpy(accuracies)).numpy()


def _measure_diversity(groups: Sequence[RolloutGroup], meter: Meter) -> None:
    """``diversity/distinct_correct``: different right answers per prompt; ``diversity/distinct_2``: of the pairs of neighbouring tokens
    in the completions of a prompt, the share that are different ones (prompts without such a pair left out)."""
    distinct = [len({v.answer for v in group.verdicts if v.kind is Kind.CORRECT}) for group in groups]
    meter.mean("diversity/distinct_correct", sum(distinct), len(groups))
    ids = np.fromiter((t for g in groups for c in g.completions for t in c.token_ids), dtype=np.int64)
    lengths = np.array([len(c.token_ids) for g in groups for c in g.completions], dtype=np.int64)
    of = np.repeat(np.arange(len(lengths)), lengths)  # the rollout of each token
    inside = of[1:] == of[:-1]
    size = len(lengths) // max(1, len(groups))
    pairs = np.stack([of[1:][inside] // size, ids[:-1][inside], ids[1:][inside]]) if size else np.zeros((3, 0), dtype=np.int64)
    order = np.lexsort(pairs)
    new = np.diff(pairs[:, order], axis=1, prepend=-1).any(0)  # the first of equal pairs in a group
    counts = np.bincount(pairs[0], minlength=len(groups))
    different = np.bincount(pairs[0, order][new], minlength=len(groups))
    some = counts > 0
    meter.mean("diversity/distinct_2", (different[some] / counts[some]).sum(), some.sum())


def measure_dynamic_sampling(drawn: Sequence[RolloutGroup], want: int, batches: int, meter: Meter) -> None:
    """``dynamic/batches`` generation batches an iteration took; of all groups generated the shares dropped because none or all were
    right and left over (``dynamic/{none,all,surplus}``); of the groups learned from the share that has no signal after all
    (``dynamic/filled``); share of the generated tokens that is not learned from (``dynamic/wasted_tokens``)."""
    equal = np.array([len(set(group.rewards)) == 1 for group in drawn])
    solved = np.array([group.verdicts[0].kind is Kind.CORRECT for group in drawn])
    tokens = np.array([sum(len(c.token_ids) for c in group.completions) for group in drawn])
    signal = int((~equal).sum())
    used = tokens[~equal][:want].sum() + tokens[equal][: max(0, want - signal)].sum()
    meter.mean("dynamic/batches", batches, 1)
    meter.mean("dynamic/none", (equal & ~solved).sum(), len(drawn))
    meter.mean("dynamic/all", (equal & solved).sum(), len(drawn))
    meter.mean("dynamic/surplus", max(0, signal - want), len(drawn))
    meter.mean("dynamic/filled", max(0, want - signal), want)
    meter.mean("dynamic/wasted_tokens", tokens.sum() - used, tokens.sum())


def measure_difficulty(order: ProblemOrder, prompts: int, meter: Meter) -> None:
    """``data/too_easy``, ``data/too_hard``: shares of the training problems that the difficulty filter leaves out from now on;
    ``data/readmitted``: share of the iteration's ``prompts`` that were out of range and served all the same."""
    easy, hard, problems = order.out_of_range()
    meter.mean("data/too_easy", easy, problems)
    meter.mean("data/too_hard", hard, problems)
    meter.mean("data/readmitted", order.readmitted, prompts)


def measure_resampled(groups: Sequence[RolloutGroup], meter: Meter) -> None:
    """``resample/reward``: mean reward of the rollouts drawn at another temperature."""
    rewards = [reward for group in groups for reward in group.rewards]
    meter.mean("resample/reward", sum(rewards), len(rewards))


def _measure_covariance(groups: Sequence[RolloutGroup], meter: Meter) -> None:
    """``covariance/p_{lower edge}``: mean over the mixed groups of an accuracy bin of Cov(length-normalised log-prob, +1 or -1)
    over the rollouts of a group, 2p(1-p)(mean of the right - mean of the wrong); AsymGRPO (arXiv 2604.04894)."""
    right = np.array([[v.kind is Kind.CORRECT for v in group.verdicts] for group in groups])
    logp = np.array([[sum(c.logprobs) / len(c.logprobs) if c.logprobs else np.nan for c in group.completions] for group in groups])
    p = right.mean(1) if len(groups) else np.zeros(0)
    mixed = (p > 0) & (p < 1)
    right, logp, p = right[mixed], logp[mixed], p[mixed]
    difference = np.where(right, logp, 0).sum(1) / right.sum(1) - np.where(right, 0, logp).sum(1) / (~right).sum(1) if len(p) else p
    values, bins = 2 * p * (1 - p) * difference, _bins(p)
    for i, edge in enumerate(BIN_EDGES):
        meter.mean(f"covariance/p_{edge:.2f}", values[bins == i].sum(), (bins == i).sum())
