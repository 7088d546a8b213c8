"""Prompts out, rollout groups in, packed mini-batches out."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from lightning import LightningDataModule
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from asym_lightning.ops.packing import micro_batches, pack
from asym_lightning.tasks.base import Task
from asym_lightning.types import MiniBatch, Problem, Prompt, RolloutGroup


class _Served:
    """The mini-batches of the current iteration, looked up when the epoch starts to read them: Lightning makes the iterator
    of the first epoch before the rollouts are there."""

    def __init__(self, module: "RolloutDataModule"):
        self.module = module

    def __len__(self) -> int:
        return self.module.mini_batches_per_iteration

    def __iter__(self) -> Iterator[MiniBatch]:
        yield from self.module.mini_batches


class RolloutDataModule(LightningDataModule):
    """Serves rollout groups; it computes nothing about learning.

    The order of prompts is a permutation per pass over the task, a function of the seed and of the iteration alone, so a
    resumed run continues where it stopped. Mini-batch m holds the same prompts for every number of ranks.

    Args:
        prompts_per_iteration: prompts per RL iteration, all ranks together.
        prompts_per_mini_batch: prompts per optimizer step, all ranks together.
        tokens_per_micro_batch: most tokens in one forward pass.
    """

    def __init__(
        self,
        task: Task,
        tokenizer: PreTrainedTokenizerBase,
        prompts_per_iteration: int,
        prompts_per_mini_batch: int,
        tokens_per_micro_batch: int,
        seed: int,
    ):
        super().__init__()
        self.task, self.tokenizer, self.seed = task, tokenizer, seed
        self.prompts_per_iteration = prompts_per_iteration
        self.mini_batches_per_iteration = prompts_per_iteration // prompts_per_mini_batch
        self.tokens_per_micro_batch = tokens_per_micro_batch
        self.mini_batches: list[MiniBatch] = []
        self._order: tuple[int, list[int]] = (-1, [])

    def _problem(self, position: int) -> Problem:
        sweep, offset = divmod(position, len(self.task.train))
        if self._order[0] != sweep:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + sweep)
            self._order = (sweep, torch.randperm(len(self.task.train), generator=generator).tolist())
        return self.task.train[self._order[1][offset]]

    def encode(self, problem: Problem) -> Prompt:
        return Prompt(problem, tuple(self.task.encode(problem, self.tokenizer)))

    def prompts(self, iteration: int, rank: int, world_size: int) -> list[tuple[int, Prompt]]:
        """This rank's prompts of an iteration, each with its number among the run's prompts."""
        first = iteration * self.prompts_per_iteration
        return [(i, self.encode(self._problem(i))) for i in range(first + rank, first + self.prompts_per_iteration, world_size)]

    def put(self, groups: Sequence[RolloutGroup]) -> None:
        """Take this rank's groups of the iteration and make its mini-batches of them."""
        size = len(groups) // self.mini_batches_per_iteration
        self.mini_batches = [self._mini_batch(groups[i : i + size]) for i in range(0, len(groups), size)]
        self._equalize()

    def _mini_batch(self, groups: Sequence[RolloutGroup]) -> MiniBatch:
        lengths = torch.tensor([[len(c.token_ids) for c in group.completions] for group in groups])
        return MiniBatch(
            rewards=torch.tensor([group.rewards for group in groups], dtype=torch.float32),
            truncated=torch.tensor([[c.truncated for c in group.completions] for group in groups]),
            lengths=lengths.flatten(),
            micro_batches=micro_batches(groups, self.tokens_per_micro_batch),
            token_count=int(lengths.sum()),
            rollout_count=lengths.numel(),
            groups=list(groups),
        )

    def _equalize(self) -> None:
        """Sum the counts over ranks and give every rank the same number of micro-batches, empty ones where needed."""
        counts = torch.tensor([[b.token_count, b.rollout_count] for b in self.mini_batches])
        most = torch.tensor([len(b.micro_batches) for b in self.mini_batches])
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            counts, most = _over_ranks(counts, "sum"), _over_ranks(most, "max")
        for batch, (tokens, rollouts), number in zip(self.mini_batches, counts.tolist(), most.tolist(), strict=True):
            batch.token_count, batch.rollout_count = tokens, rollouts
            batch.micro_batches += [pack([]) for _ in range(number - len(batch.micro_batches))]

    def train_dataloader(self) -> Iterable[MiniBatch]:
        return _Served(self)

    def transfer_batch_to_device(self, batch: MiniBatch, device: torch.device, dataloader_idx: int) -> MiniBatch:
        batch.micro_batches = [micro.to(device) for micro in batch.micro_batches]
        batch.rewards, batch.truncated, batch.lengths = (x.to(device) for x in (batch.rewards, batch.truncated, batch.lengths))
        return batch


def _over_ranks(values: Tensor, how: str) -> Tensor:
    device = torch.device("cuda", torch.cuda.current_device()) if torch.distributed.get_backend() == "nccl" else torch.device("cpu")
    values = values.to(device)
    torch.distributed.all_reduce(values, torch.distributed.ReduceOp.SUM if how == "sum" else torch.distributed.ReduceOp.MAX)
    return values.cpu()
