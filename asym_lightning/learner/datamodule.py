"""Prompts out, rollout groups in, packed mini-batches out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from lightning import LightningDataModule
from transformers import PreTrainedTokenizerBase

from asym_lightning.algorithms.rules import RolloutRules
from asym_lightning.learner.batch import MiniBatch
from asym_lightning.learner.fsdp import share_of
from asym_lightning.learner.packing import Unit, bins_of, pack_units, units
from asym_lightning.runtime.ranks import merged_in_turn, over_ranks
from asym_lightning.tasks.base import Task
from asym_lightning.tasks.order import Difficulty, ProblemOrder
from asym_lightning.types import Kind, Problem, Prompt, RolloutGroup


class _Served:
    """The numbers of an iteration's mini-batches. Lightning makes the iterator of the first epoch before the rollouts are there, and
    would cast every tensor of a batch to the trainer's precision, rewards and log-probs too: a number is looked up after both."""

    def __init__(self, module: "RolloutDataModule"):
        self.module = module

    def __len__(self) -> int:
        return self.module.mini_batches_per_iteration

    def __iter__(self) -> Iterator[int]:
        yield from range(len(self))


class RolloutDataModule(LightningDataModule):
    """Serves rollout groups; it computes nothing about learning.

    The order of prompts is a permutation per pass over the task, a function of the seed and of the iteration, and of the accuracies so far
    where ``difficulty`` leaves problems out; a resumed run continues where it stopped. Mini-batch m holds the same prompts for every
    number of ranks.

    Args:
        prompts_per_iteration: prompts per RL iteration, all ranks together.
        prompts_per_mini_batch: prompts per optimizer step, all ranks together.
        tokens_per_micro_batch: most tokens in one forward pass.
        rules: what the method asks of its rollouts.
        max_tokens: longest completion.
        share_prompts: rollouts of a group have their prompt once in a micro-batch.
        difficulty: which problems are left out by the accuracy of their past groups; none unless given.
    """

    def __init__(
        self,
        task: Task,
        tokenizer: PreTrainedTokenizerBase,
        prompts_per_iteration: int,
        prompts_per_mini_batch: int,
        tokens_per_micro_batch: int,
        seed: int,
        rules: RolloutRules | None = None,
        max_tokens: int = 1,
        share_prompts: bool = False,
        difficulty: Difficulty | None = None,
    ):
        super().__init__()
        self.rules, self.max_tokens = rules or RolloutRules(), max_tokens
        self.spare = 0  # prompts taken beyond the iterations' own, all ranks together
        self.task, self.tokenizer = task, tokenizer
        self.prompts_per_iteration = prompts_per_iteration
        self.mini_batches_per_iteration = prompts_per_iteration // prompts_per_mini_batch
        self.tokens_per_micro_batch, self.share_prompts = tokens_per_micro_batch, share_prompts
        self.mini_batches: list[MiniBatch] = []
        self.order = ProblemOrder([problem.id for problem in task.train], seed, difficulty)
        self._noted = False  # that too few problems are in range

    def encode(self, problem: Problem) -> Prompt:
        return Prompt(problem, tuple(self.task.encode(problem, self.tokenizer)))

    def prompts(self, iteration: int, rank: int, world_size: int) -> list[tuple[int, Prompt]]:
        """This rank's prompts of an iteration, each with its number among the run's prompts. The first rank says in one line where the
        difficulty filter begins to leave too few."""
        size = self.prompts_per_iteration
        problems = self.order.iteration(iteration, size)
        if self.order.note and not self._noted and rank == 0:
            print(self.order.note, flush=True)
        self._noted = bool(self.order.note)
        return [(iteration * size + i, self.encode(self.task.train[problems[i]])) for i in range(rank, size, world_size)]

    def spare_prompts(self, count: int, rank: int, world_size: int) -> list[tuple[int, Prompt]]:
        """``count`` further prompts for this rank, from an order of their own, so that the iterations' prompts stay what they are."""
        first, self.spare = self.spare, self.spare + count * world_size
        numbers = range(first + rank, self.spare, world_size)
        return [(i, self.encode(self.task.train[index])) for i, index in zip(numbers, self.order.spare(numbers), strict=True)]

    def observe(self, groups: Sequence[RolloutGroup]) -> None:
        """Take note of how many rollouts of each of this rank's groups are right. Every rank calls it as often as the others."""
        self.order.observe(groups)

    def first_of_each_mini_batch(self, numbered: Sequence[tuple[int, Prompt]], share: float) -> list[list[tuple[int, Prompt]]]:
        """Of this rank's prompts of an iteration, by mini-batch, those among the first ``share`` (at least one) of all ranks' prompts."""
        size, whole = len(numbered) // self.mini_batches_per_iteration, self.prompts_per_iteration // self.mini_batches_per_iteration
        most = max(1, round(share * whole))
        parts = [numbered[i : i + size] for i in range(0, len(numbered), size)]
        return [[(number, prompt) for number, prompt in part if number % whole < most] for part in parts]

    def state_dict(self) -> dict[str, Any]:
        return {"spare": self.spare, "order": self.order.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.spare = state["spare"]
        self.order.load_state_dict(state.get("order", {}))

    def put(self, groups: Sequence[RolloutGroup], resampled: Sequence[Sequence[RolloutGroup]] = ()) -> None:
        """Take this rank's groups of the iteration and make its mini-batches of them, together with those of ranks that learn from the
        same; the right rollouts of ``resampled``, given by mini-batch, go along."""
        share = share_of(self.trainer)
        size = len(groups) // self.mini_batches_per_iteration
        parts = merged_in_turn([groups[i : i + size] for i in range(0, len(groups), size)], share.sharers)
        self.mini_batches = self._equalized([self._mini_batch(part) for part in parts], share.peers)
        if self.rules.resample is not None:
            again = merged_in_turn(resampled, share.sharers)
            further = self._equalized([self._mini_batch(part, only_right=True) for part in again], share.peers, 0)
            for batch, more in zip(self.mini_batches, further, strict=True):
                batch.resampled = more

    def _mini_batch(self, groups: Sequence[RolloutGroup], only_right: bool = False) -> tuple[MiniBatch, list[list[Unit]]]:
        """A mini-batch without micro-batches, and what they are to be packed from: groups without a signal apart and first, since the
        policy may have no gradient to take from them."""
        completions = [group.completions for group in groups]
        lengths = torch.tensor([[len(c.token_ids) for c in row] for row in completions], dtype=torch.long)
        rewards = torch.tensor([group.rewards for group in groups], dtype=torch.float32)
        right = torch.tensor([[verdict.kind is Kind.CORRECT for verdict in group.verdicts] for group in groups], dtype=torch.bool)
        learned = right if only_right else torch.ones_like(right)
        if self.rules.mask_truncated:
            learned = learned & ~torch.tensor([[c.truncated for c in row] for row in completions], dtype=torch.bool)
        rewards = rewards + self.rules.penalty(lengths, self.max_tokens)
        signal = (rewards != rewards[:, :1]).any(1) if groups else torch.zeros(0, dtype=torch.bool)  # a rank may have none to draw again
        batch = MiniBatch(
            rewards=rewards,
            right=right,
            lengths=lengths.flatten(),
            micro_batches=[],
            token_count=int(lengths[learned].sum()),
            rollout_count=int(learned.sum()),
            groups=list(groups),
        )
        kept = learned.flatten().tolist()
        parts = [part.nonzero()[:, 0].tolist() for part in (~signal, signal)]
        return batch, [units(groups, self.tokens_per_micro_batch, kept, self.share_prompts, only) for only in parts]

    def _equalized(self, made: Sequence[tuple[MiniBatch, list[list[Unit]]]], peers: Any, fewest: int = 1) -> list[MiniBatch]:
        """Sum the counts over all that is learned from, and pack on every rank the same number of micro-batches of about the same size,
        ``fewest`` empty ones where no rank has anything."""
        budget = self.tokens_per_micro_batch
        counts = over_ranks(torch.tensor([[b.token_count, b.rollout_count] for b, _ in made]), "sum", peers).tolist()
        most = over_ranks(torch.tensor([[len(bins_of(part, budget)) for part in parts] for _, parts in made]), "max").tolist()
        for (batch, parts), (tokens, rollouts), numbers in zip(made, counts, most, strict=True):
            batch.token_count, batch.rollout_count = tokens, rollouts
            if fewest and not any(numbers):
                numbers[-1] = fewest
            for part, number in zip(parts, numbers, strict=True):
                batch.micro_batches += pack_units(part, budget, self.share_prompts, number)
        return [batch for batch, _ in made]

    def train_dataloader(self) -> Iterable[int]:
        return _Served(self)

    def on_before_batch_transfer(self, batch: int, dataloader_idx: int) -> MiniBatch:
        return self.mini_batches[batch]

    def transfer_batch_to_device(self, batch: MiniBatch, device: torch.device, dataloader_idx: int) -> MiniBatch:
        batch.micro_batches = [micro.to(device) for micro in batch.micro_batches]
        batch.rewards, batch.right, batch.lengths = (x.to(device) for x in (batch.rewards, batch.right, batch.lengths))
        if batch.resampled is not None:
            self.transfer_batch_to_device(batch.resampled, device, dataloader_idx)
        return batch
