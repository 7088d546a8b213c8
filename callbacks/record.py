"""One row of metrics per iteration to every logger, every rollout to Parquet, a few completions as readable text."""

import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from asym_lightning.policy import PolicyModule
from asym_lightning.types import RolloutGroup
from callbacks.vllm_rollout import VLLMRollout


class Recorder(Callback):
    """Closes each iteration: reduces its metrics over the world and writes them down.

    ``history`` holds one dict of metrics per iteration on every rank.

    Args:
        folder: the run directory.
        save_rollouts_every: iterations between Parquet files of all rollouts; 0 writes none.
        show_completions_every: iterations between text tables of completions in TensorBoard; 0 writes none.
        prompts_shown: prompts in such a table.
    """

    def __init__(self, folder: str, save_rollouts_every: int = 1, show_completions_every: int = 10, prompts_shown: int = 2):
        self.folder = Path(folder)
        self.save_rollouts_every, self.show_completions_every = save_rollouts_every, show_completions_every
        self.prompts_shown = prompts_shown
        self.history: list[dict[str, float]] = []
        self._start = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, PolicyModule)
        start = time.perf_counter()
        rollout = next(c for c in trainer.callbacks if isinstance(c, VLLMRollout))  # type: ignore[attr-defined]
        iteration = trainer.current_epoch
        if self.save_rollouts_every and iteration % self.save_rollouts_every == 0:
            self._write(rollout.groups, iteration, trainer.global_rank)
        pl_module.meter.mean("time/iteration", time.perf_counter() - self._start, 1)
        pl_module.meter.mean("time/log", time.perf_counter() - start, 1)
        metrics = pl_module.meter.compute(lambda x, how: trainer.strategy.reduce(x, reduce_op=how), pl_module.device)  # type: ignore[arg-type, return-value]
        metrics["throughput/tokens_per_s"] = metrics.pop("throughput/generated_tokens") / metrics["time/iteration"]
        self.history.append(metrics)
        trainer.callback_metrics.update({k: torch.tensor(v) for k, v in metrics.items()})
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=iteration)
            if isinstance(logger, TensorBoardLogger) and self.show_completions_every and iteration % self.show_completions_every == 0:
                text = completions_table(rollout.groups[: self.prompts_shown])
                logger.experiment.add_text("rollouts/completions", text, iteration)

    def _write(self, groups: list[RolloutGroup], iteration: int, rank: int) -> None:
        rows = [
            {
                "iteration": iteration,
                "problem": group.prompt.problem.id,
                "prompt": group.prompt.problem.text,
                "reference": group.prompt.problem.answer,
                "completion": completion.text,
                "tokens": len(completion.token_ids),
                "truncated": completion.truncated,
                "reward": verdict.reward,
                "kind": str(verdict.kind),
                "answer": verdict.answer,
                "detail": verdict.detail,
            }
            for group in groups
            for completion, verdict in zip(group.completions, group.verdicts, strict=True)
        ]
        target = self.folder / "rollouts" / f"iteration-{iteration:06d}-rank-{rank}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), target)


def completions_table(groups: list[RolloutGroup]) -> str:
    """A Markdown table of the rollouts of ``groups``; cell breaks and line ends in the text are made visible."""

    def cell(text: str) -> str:
        return text.replace("\\", "\\\\").replace("|", "\\|").replace("`", "'").replace("\n", " ⏎ ")[:400]

    lines = ["| prompt | completion | tokens | reward | kind |", "|---|---|---|---|---|"]
    for group in groups:
        for completion, verdict in zip(group.completions, group.verdicts, strict=True):
            row: list[Any] = [cell(group.prompt.problem.text), f"`{cell(completion.text)}`", len(completion.token_ids)]
            lines.append("| " + " | ".join(map(str, [*row, f"{verdict.reward:g}", verdict.kind])) + " |")
    return "\n".join(lines)
