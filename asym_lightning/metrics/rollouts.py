"""Metrics of rollouts: reward, accuracy, pass@k, diversity, length, covariance, verification."""

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
    """Add this rank's groups to the iteration's means.

    Rates are shares of rollouts, ``solved/*`` shares of prompts.
    """
    rewards = np.array([group.rewards for group in groups], dtype=np.float64)
    meter.mean("reward/mean", rewards.sum(), rewards.size)
    meter.mean("reward/std", rewards.std(axis=1).sum(), len(groups))
    correct = _correct(groups)
    _measure_accuracy(correct, meter)
    _measure_lengths(groups, correct, meter)
    verdicts = [verdict for group in groups for verdict in group.verdicts]
    kinds = [verdict.kind for verdict in verdicts]
    for kind in Kind:
        meter.mean(f"verify/{kind}", kinds.count(kind), len(kinds))
    other_texts = [v.is_other_text for v in verdicts if v.kind is Kind.CORRECT]
    compared = [other for other in other_texts if other is not None]
    meter.mean("verify/rewarded_other_text", sum(compared), len(compared))
    for name in all_names(name for verdict in verdicts for name in verdict.parts):
        values = [verdict.parts[name] for verdict in verdicts if name in verdict.parts]
        meter.mean(f"reward/part_{name}", sum(values), len(values))
    _measure_diversity(groups, meter)
    _measure_covariance(groups, meter)


def _correct(groups: Sequence[RolloutGroup]) -> np.ndarray:
    """A mask [groups, G] of the correct rollouts."""
    return np.array([[v.kind is Kind.CORRECT for v in group.verdicts] for group in groups])


def _measure_lengths(groups: Sequence[RolloutGroup], correct: np.ndarray, meter: Meter) -> None:
    """``length/*``: tokens per completion, and the share of truncated completions."""
    lengths = np.array([[len(c.token_ids) for c in group.completions] for group in groups])
    meter.mean("length/mean", lengths.sum(), lengths.size)
    meter.mean("length/correct", lengths[correct].sum(), correct.sum())
    meter.mean("length/wrong", lengths[~correct].sum(), (~correct).sum())
    meter.maximum("length/max", torch.from_numpy(lengths))
    truncated = sum(c.truncated for group in groups for c in group.completions)
    meter.mean("length/truncated", truncated, lengths.size)


def _measure_accuracy(correct: np.ndarray, meter: Meter) -> None:
    """``solved/*``, ``accuracy/p_{edge}`` and ``train/pass@{k}``.

    ``solved/{none,all,mixed}`` and ``accuracy/p_{edge}`` are shares of the prompts;
    ``train/pass@{k}`` is unbiased, for k = 1, 2, 4 ... G.
    """
    (count, size), correct_counts = correct.shape, correct.sum(1)
    meter.mean("solved/none", (correct_counts == 0).sum(), count)
    meter.mean("solved/all", (correct_counts == size).sum(), count)
    meter.mean("solved/mixed", ((correct_counts > 0) & (correct_counts < size)).sum(), count)
    bins = np.bincount(_bins(correct_counts / size), minlength=len(BIN_EDGES))
    for edge, number in zip(BIN_EDGES, bins, strict=True):
        meter.mean(f"accuracy/p_{edge:.2f}", number, count)
    for k in powers_of_two(size):
        total = sum(pass_at_k(size, int(c), k) for c in correct_counts)
        meter.mean(f"train/pass@{k}", total, count)


def _bins(accuracies: np.ndarray) -> np.ndarray:
    """The accuracy bin of each group."""
    return accuracy_bin(torch.from_numpy(accuracies)).numpy()


def _measure_diversity(groups: Sequence[RolloutGroup], meter: Meter) -> None:
    """``diversity/distinct_correct`` and ``diversity/distinct_2``.

    ``distinct_correct``: distinct correct answers per prompt.
    ``distinct_2``: distinct token bigrams of a prompt's completions divided by all of them; prompts
    without a bigram are left out.
    """
    answers = [{v.answer for v in group.verdicts if v.kind is Kind.CORRECT} for group in groups]
    meter.mean("diversity/distinct_correct", sum(len(group) for group in answers), len(groups))
    bigrams = _bigrams(groups)
    counts = np.bincount(bigrams[0], minlength=len(groups))
    order = np.lexsort(bigrams)
    # The first of equal bigrams in a group, in sorted order.
    is_first = np.diff(bigrams[:, order], axis=1, prepend=-1).any(0)
    distinct = np.bincount(bigrams[0, order][is_first], minlength=len(groups))
    has_bigrams = counts > 0
    shares = distinct[has_bigrams] / counts[has_bigrams]
    meter.mean("diversity/distinct_2", shares.sum(), has_bigrams.sum())


def _bigrams(groups: Sequence[RolloutGroup]) -> np.ndarray:
    """Return all pairs of neighbouring tokens within completions, as an array [3, pairs].

    Its rows are the index of the group, the first token and the second token.
    """
    completions = [completion for group in groups for completion in group.completions]
    # All groups have the same size.
    group_size = len(completions) // max(1, len(groups))
    if not group_size:
        return np.zeros((3, 0), dtype=np.int64)
    ids = np.fromiter((token for c in completions for token in c.token_ids), dtype=np.int64)
    lengths = np.array([len(c.token_ids) for c in completions], dtype=np.int64)
    rollout_of_token = np.repeat(np.arange(len(lengths)), lengths)
    same_rollout = rollout_of_token[1:] == rollout_of_token[:-1]
    group_of_bigram = rollout_of_token[1:][same_rollout] // group_size
    return np.stack([group_of_bigram, ids[:-1][same_rollout], ids[1:][same_rollout]])


def measure_dynamic_sampling(
    drawn: Sequence[RolloutGroup], want: int, batches: int, meter: Meter
) -> None:
    """``dynamic/*``: the cost and the yield of dynamic sampling in an iteration.

    ``dynamic/batches``: generation batches. Shares of all generated groups: ``dynamic/{none,all}``
    dropped because no rollout or every rollout was correct, ``dynamic/surplus`` left over.
    ``dynamic/filled``: share of the groups learned from that have no signal.
    ``dynamic/wasted_tokens``: share of the generated tokens that are not learned from.

    Args:
        drawn: all groups generated in the iteration.
        want: number of groups to learn from.
        batches: number of generation batches.
        meter: the iteration's meter.
    """
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
    """``data/*``: the effect of the difficulty filter.

    ``data/too_easy``, ``data/too_hard``: shares of the training problems that the filter leaves
    out from now on. ``data/readmitted``: share of the iteration's ``prompts`` that were served
    although they were out of range.
    """
    easy, hard, problems = order.out_of_range()
    meter.mean("data/too_easy", easy, problems)
    meter.mean("data/too_hard", hard, problems)
    meter.mean("data/readmitted", order.readmitted, prompts)


def measure_resampled(groups: Sequence[RolloutGroup], meter: Meter) -> None:
    """``resample/reward``: mean reward of the rollouts drawn at another temperature."""
    rewards = [reward for group in groups for reward in group.rewards]
    meter.mean("resample/reward", sum(rewards), len(rewards))


def _measure_covariance(groups: Sequence[RolloutGroup], meter: Meter) -> None:
    """``covariance/p_{lower edge}``: mean covariance of the mixed groups of an accuracy bin.

    The covariance of a group is Cov(length-normalised log-prob, +1 or -1) over its rollouts, which
    is 2p(1-p)(mean of the correct - mean of the wrong). Source: AsymGRPO, arXiv 2604.04894.
    """
    correct, logp = _correct(groups), _mean_logprobs(groups)
    p = correct.mean(1) if len(groups) else np.zeros(0)
    mixed = (p > 0) & (p < 1)
    correct, logp, p = correct[mixed], logp[mixed], p[mixed]
    difference = p
    if len(p):
        correct_mean = np.where(correct, logp, 0).sum(1) / correct.sum(1)
        wrong_mean = np.where(correct, 0, logp).sum(1) / (~correct).sum(1)
        difference = correct_mean - wrong_mean
    values, bins = 2 * p * (1 - p) * difference, _bins(p)
    for i, edge in enumerate(BIN_EDGES):
        meter.mean(f"covariance/p_{edge:.2f}", values[bins == i].sum(), (bins == i).sum())


def _mean_logprobs(groups: Sequence[RolloutGroup]) -> np.ndarray:
    """The mean log-prob of the tokens of each rollout [groups, G]; nan without tokens."""
    rows = []
    for group in groups:
        logprobs = [completion.logprobs for completion in group.completions]
        rows.append([sum(values) / len(values) if values else np.nan for values in logprobs])
    return np.array(rows)
