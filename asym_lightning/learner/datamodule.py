"""Prompts out, rollout groups in, packed mini-batches out."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from lightning import LightningDataModule
from transformers import PreTrainedTokenizerBase

from asym_lightning.algorithms.rules import RolloutRules
from asym_lightning.learner.batch import MiniBatch, PackedBatch
from asym_lightning.learner.packing import Unit, pack_bins, pack_units, packing_units
from asym_lightning.learner.strategies import adapter_in
from asym_lightning.runtime.ranks import interleave_over_ranks, reduce_over_ranks
from asym_lightning.tasks.order import Difficulty, ProblemOrder
from asym_lightning.types import Kind, Prompt, RolloutGroup

log = logging.getLogger(__name__)
# A mini-batch without micro-batches, and the units to pack: first those of groups with equal
# rewards, then the others.
Unpacked = tuple[MiniBatch, list[list[Unit]]]


class _BatchIndices:
    """The indices of an iteration's mini-batches, which Lightning iterates over.

    Lightning creates the iterator of the first epoch before the rollouts exist. It also casts every
    tensor of a batch, rewards and log-probs too, to the trainer's precision. An index is replaced
    by its mini-batch after both.
    """

    def __init__(self, module: "RolloutDataModule"):
        self.module = module

    def __len__(self) -> int:
        return self.module.mini_batches_per_iteration

    def __iter__(self) -> Iterator[int]:
        yield from range(len(self))


class RolloutDataModule(LightningDataModule):
    """Serves rollout groups; it computes nothing about learning.

    The order of prompts is a permutation per pass over the task. It is a function of the seed and
    the iteration, and of past accuracies if ``difficulty`` leaves problems out. A resumed run
    continues where it stopped. Mini-batch m holds the same prompts for every number of ranks.

    Args:
        train: the prompts to train on.
        prompts_per_iteration: prompts per RL iteration, all ranks together.
        prompts_per_mini_batch: prompts per optimizer step, all ranks together.
        tokens_per_micro_batch: largest number of tokens in one forward pass.
        rules: the method's rules for its rollouts.
        max_tokens: longest completion.
        share_prompts: rollouts of a group have their prompt once in a micro-batch.
        padded: the model pads the sequences of a micro-batch to one length.
        difficulty: which problems to leave out by the accuracy of their past groups; None: serve
            all.
    """

    def __init__(
        self,
        train: Sequence[Prompt],
        tokenizer: PreTrainedTokenizerBase,
        prompts_per_iteration: int,
        prompts_per_mini_batch: int,
        tokens_per_micro_batch: int,
        seed: int,
        rules: RolloutRules | None = None,
        max_tokens: int = 1,
        share_prompts: bool = False,
        padded: bool = False,
        difficulty: Difficulty | None = None,
    ):
        super().__init__()
        self.rules, self.max_tokens = rules or RolloutRules(), max_tokens
        # Prompts taken beside those of the iterations, all ranks together.
        self.spare = 0
        self.train, self.tokenizer = train, tokenizer
        self.prompts_per_iteration = prompts_per_iteration
        self.mini_batches_per_iteration = prompts_per_iteration // prompts_per_mini_batch
        self.tokens_per_micro_batch = tokens_per_micro_batch
        self.share_prompts, self.padded = share_prompts, padded
        self.mini_batches: list[MiniBatch] = []
        self.order = ProblemOrder([prompt.problem.id for prompt in train], seed, difficulty)
        # Whether the last iteration had a note of the order: too few problems are in range.
        self._noted = False

    def prompts(self, iteration: int, rank: int, world_size: int) -> list[tuple[int, Prompt]]:
        """Return this rank's prompts of an iteration, each with its number within the run.

        One line is logged when the difficulty filter begins to leave too few problems.
        """
        size = self.prompts_per_iteration
        problems = self.order.iteration(iteration, size)
        if self.order.note and not self._noted:
            log.info(self.order.note)
        self._noted = bool(self.order.note)
        return [
            (iteration * size + i, self.train[problems[i]]) for i in range(rank, size, world_size)
        ]

    def spare_prompts(self, count: int, rank: int, world_size: int) -> list[tuple[int, Prompt]]:
        """Return ``count`` further prompts for this rank.

        They come from an order of their own, so that the prompts of the iterations do not change.
        """
        first, self.spare = self.spare, self.spare + count * world_size
        numbers = range(first + rank, self.spare, world_size)
        return [
            (number, self.train[index])
            for number, index in zip(numbers, self.order.spare(numbers), strict=True)
        ]

    def observe(self, groups: Sequence[RolloutGroup]) -> None:
        """Count the correct rollouts of this rank's groups for ``difficulty``.

        Every rank must call it equally often.
        """
        self.order.observe(groups)

    def first_of_each_mini_batch(
        self, numbered: Sequence[tuple[int, Prompt]], share: float
    ) -> list[list[tuple[int, Prompt]]]:
        """Return the first ``share`` of every mini-batch's prompts, as far as this rank has them.

        Args:
            numbered: this rank's prompts of an iteration.
            share: of the prompts of all ranks; at least one prompt is taken.
        """
        size = len(numbered) // self.mini_batches_per_iteration
        prompts = self.prompts_per_iteration // self.mini_batches_per_iteration
        count = max(1, round(share * prompts))
        parts = [numbered[i : i + size] for i in range(0, len(numbered), size)]
        return [
            [(number, prompt) for number, prompt in part if number % prompts < count]
            for part in parts
        ]

    def state_dict(self) -> dict[str, Any]:
        return {"spare": self.spare, "order": self.order.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.spare = state["spare"]
        self.order.load_state_dict(state.get("order", {}))

    def load_rollouts(
        self, groups: Sequence[RolloutGroup], resampled: Sequence[Sequence[RolloutGroup]] = ()
    ) -> None:
        """Make the iteration's mini-batches from this rank's groups.

        Ranks that compute layers together (tensor parallelism) merge their groups.

        Args:
            resampled: re-sampled groups by mini-batch; their correct rollouts are added to it.
        """
        shard = adapter_in(self.trainer).rollout_shard
        size = len(groups) // self.mini_batches_per_iteration
        parts = [groups[i : i + size] for i in range(0, len(groups), size)]
        unpacked = [self._unpacked(part) for part in interleave_over_ranks(parts, shard.tp_group)]
        self.mini_batches = self._packed(unpacked, shard.dp_group)
        if self.rules.resample is None:
            return
        unpacked = [
            self._unpacked(part, only_correct=True)
            for part in interleave_over_ranks(resampled, shard.tp_group)
        ]
        further = self._packed(unpacked, shard.dp_group, fewest=0)
        self.mini_batches = [
            replace(batch, resampled=resampled_batch)
            for batch, resampled_batch in zip(self.mini_batches, further, strict=True)
        ]

    def _unpacked(self, groups: Sequence[RolloutGroup], only_correct: bool = False) -> Unpacked:
        """Return a mini-batch of ``groups`` without micro-batches, and the units to pack.

        Groups with equal rewards are packed apart and first, since they may have no gradient.
        """
        completions = [group.completions for group in groups]
        token_counts = [[len(c.token_ids) for c in row] for row in completions]
        kinds = [[verdict.kind for verdict in group.verdicts] for group in groups]
        lengths = torch.tensor(token_counts, dtype=torch.long)
        rewards = torch.tensor([group.rewards for group in groups], dtype=torch.float32)
        correct = torch.tensor(
            [[kind is Kind.CORRECT for kind in row] for row in kinds], dtype=torch.bool
        )
        learned = correct if only_correct else torch.ones_like(correct)
        if self.rules.mask_truncated:
            truncated = [[c.truncated for c in row] for row in completions]
            learned = learned & ~torch.tensor(truncated, dtype=torch.bool)
        rewards = rewards + self.rules.penalty(lengths, self.max_tokens)
        # A rank may have no re-sampled groups at all.
        has_signal = torch.zeros(0, dtype=torch.bool)
        if groups:
            has_signal = (rewards != rewards[:, :1]).any(1)
        batch = MiniBatch(
            rewards=rewards,
            correct=correct,
            lengths=lengths.flatten(),
            micro_batches=(),
            token_count=int(lengths[learned].sum()),
            rollout_count=int(learned.sum()),
            groups=tuple(groups),
        )
        units = [
            packing_units(
                groups,
                self.tokens_per_micro_batch,
                learned.flatten().tolist(),
                share_prompts=self.share_prompts,
                only=chosen.nonzero()[:, 0].tolist(),
            )
            for chosen in (~has_signal, has_signal)
        ]
        return batch, units

    def _packed(
        self, unpacked: Sequence[Unpacked], dp_group: Any, fewest: int = 1
    ) -> list[MiniBatch]:
        """Pack mini-batches, and sum their counts over all rollouts that are learned from.

        Every rank gets the same number of micro-batches, of about the same size.

        Args:
            fewest: number of empty micro-batches if no rank has any rollout.
        """
        budget = self.tokens_per_micro_batch
        own_counts = torch.tensor([[b.token_count, b.rollout_count] for b, _ in unpacked])
        counts = reduce_over_ranks(own_counts, "sum", dp_group).tolist()
        own_bins = torch.tensor(
            [
                [len(pack_bins(units, budget, padded=self.padded)) for units in parts]
                for _, parts in unpacked
            ]
        )
        bins = reduce_over_ranks(own_bins, "max").tolist()
        packed: list[MiniBatch] = []
        for (batch, parts), (tokens, rollouts), numbers in zip(unpacked, counts, bins, strict=True):
            if fewest and not any(numbers):
                numbers[-1] = fewest
            micro_batches: list[PackedBatch] = []
            for units, number in zip(parts, numbers, strict=True):
                micro_batches += pack_units(
                    units, budget, self.share_prompts, count=number, padded=self.padded
                )
            packed.append(
                replace(
                    batch,
                    micro_batches=tuple(micro_batches),
                    token_count=tokens,
                    rollout_count=rollouts,
                )
            )
        return packed

    def train_dataloader(self) -> Iterable[int]:
        return _BatchIndices(self)

    def on_before_batch_transfer(self, batch: int, dataloader_idx: int) -> MiniBatch:
        return self.mini_batches[batch]

    def transfer_batch_to_device(
        self, batch: MiniBatch, device: torch.device, dataloader_idx: int
    ) -> MiniBatch:
        return batch.to(device)
