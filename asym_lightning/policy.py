"""The policy: scores tokens, and takes one optimizer step over one mini-batch of whole groups per training step."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from lightning import LightningModule
from torch import Tensor

from asym_lightning.algorithms import Algorithm
from asym_lightning.algorithms.losses import LossInputs
from asym_lightning.metrics.meter import Meter
from asym_lightning.ops.logprob import token_logprobs
from asym_lightning.types import MiniBatch, PackedBatch


class EngineMismatchError(RuntimeError):
    """The engine sampled from another policy than the trainer's: stale or wrong weights, or another precision."""


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW with linear warm-up from 0 to ``learning_rate`` over ``warmup_steps``, gradients clipped to ``max_grad_norm``."""

    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    warmup_steps: int = 0
    max_grad_norm: float = 1.0
    eps: float = 1e-8


class PolicyModule(LightningModule):
    """A causal language model trained by a policy gradient.

    Args:
        model: a transformers causal LM.
        algorithm: advantage, policy loss, aggregation and modulations.
        optimizer: see :class:`OptimizerSettings`.
        temperature: the rollouts' sampling temperature; scores use it too.
        logprob_gap_limit: largest allowed |engine - trainer| log-probability of a sampled token (nats).
        gradient_checkpointing: recompute activations in the backward pass.
    """

    def __init__(
        self,
        model: Any,
        algorithm: Algorithm,
        optimizer: OptimizerSettings,
        temperature: float,
        logprob_gap_limit: float,
        gradient_checkpointing: bool = False,
    ):
        super().__init__()
        self.automatic_optimization = False
        self.model = model.train()
        self.model.config.use_cache = False
        if gradient_checkpointing:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self.algorithm, self.settings = algorithm, optimizer
        self.temperature, self.logprob_gap_limit = temperature, logprob_gap_limit
        self.meter = Meter()

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Name and tensor of every weight under its transformers name; a tied output head is its embedding and left out."""
        seen: set[int] = set()
        for name, tensor in self.model.state_dict().items():
            if tensor.data_ptr() not in seen:
                seen.add(tensor.data_ptr())
                yield name, tensor

    def score(self, batch: PackedBatch, entropy_grad: bool = False) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
        """Log-probability and entropy (nats) of every completion token of a micro-batch, in its order."""
        base = self.model.get_decoder()
        hidden = base(input_ids=batch.input_ids[None], position_ids=batch.position_ids[None], use_cache=False).last_hidden_state[0]
        head = self.model.get_output_embeddings()
        chosen = hidden[batch.predict_at]
        if not batch.targets.numel():  # an empty micro-batch still takes part in the gradient's reduction
            nothing = hidden.sum() * 0 + head.weight.sum() * 0
            return chosen.sum(-1) + nothing, chosen.sum(-1) + nothing
        return token_logprobs(chosen, head.weight, batch.targets, head.bias, self.temperature, entropy_grad)

    def on_train_epoch_start(self) -> None:
        """Off-policy iterations: score the old log-probs once, before the first update."""
        batches: list[MiniBatch] = self.trainer.datamodule.mini_batches  # type: ignore[attr-defined]
        if len(batches) == 1:
            return
        start = time.perf_counter()
        with torch.no_grad(), self.trainer.precision_plugin.forward_context():
            for batch in batches:
                for micro in batch.micro_batches:
                    micro.old_logp = self.score(micro.to(self.device))[0].cpu()
        gaps = [(m.old_logp - m.engine_logp).abs() for b in batches for m in b.micro_batches if m.old_logp is not None]
        self._check_engine(torch.cat(gaps).to(self.device))
        self.meter.mean("time/score", time.perf_counter() - start, 1)

    def training_step(self, batch: MiniBatch, batch_idx: int) -> None:
        start = time.perf_counter()
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        advantages = self.algorithm.advantage(batch.rewards)
        gaps = []
        for i, micro in enumerate(batch.micro_batches):
            logp, loss = self._loss(micro, batch, advantages.flatten())
            if micro.old_logp is None:
                micro.old_logp = logp.detach()
                gaps.append((micro.old_logp - micro.engine_logp).abs())
            with self._reduce_gradients(i + 1 == len(batch.micro_batches)):
                self.manual_backward(loss * self.trainer.world_size)
        if gaps:
            self._check_engine(torch.cat(gaps))
        norm = torch.nn.utils.clip_grad_norm_(self.parameters(), self.settings.max_grad_norm)
        self.meter.mean("optimizer/grad_norm", norm, 1)
        self.meter.mean("optimizer/learning_rate", optimizer.param_groups[0]["lr"], 1)
        self._count(batch, advantages)
        optimizer.step()
        self.lr_schedulers().step()  # type: ignore[union-attr]
        self.meter.mean("time/learn", time.perf_counter() - start, 1 / self.trainer.num_training_batches)

    def _loss(self, micro: PackedBatch, batch: MiniBatch, advantages: Tensor) -> tuple[Tensor, Tensor]:
        algorithm = self.algorithm
        logp, entropy = self.score(micro, any(m.needs_entropy_grad for m in algorithm.modulation))
        shaped = advantages[micro.rows].to(logp.dtype)
        for modulation in algorithm.modulation:
            shaped = modulation.shape_advantages(shaped, logp.detach(), entropy.detach())
        old = logp.detach() if micro.old_logp is None else micro.old_logp
        out = algorithm.loss(LossInputs(logp, old, shaped, micro.rows))
        weights = algorithm.aggregation.weights(batch.lengths[micro.rows], batch.token_count, batch.rollout_count)
        policy_loss = (out.per_token * weights).sum()
        terms = [term for m in algorithm.modulation if (term := m.loss_term(logp, entropy)) is not None]
        extra = sum(((term * weights).sum() for term in terms), start=policy_loss.new_zeros(()))
        empty = (logp.sum() + entropy.sum()) * 0 if not logp.numel() else 0.0
        self._measure(micro, batch, entropy.detach(), policy_loss, extra, out.diagnostics)
        return logp, policy_loss + extra + empty

    def _measure(
        self, micro: PackedBatch, batch: MiniBatch, entropy: Tensor, policy_loss: Tensor, extra: Tensor, diagnostics: dict[str, Tensor]
    ) -> None:
        positive = batch.rewards.flatten()[micro.rows] > 0
        self.meter.mean("entropy/policy", entropy.sum(), entropy.numel())
        self.meter.mean("entropy/positive", entropy[positive].sum(), positive.sum())
        self.meter.mean("entropy/negative", entropy[~positive].sum(), (~positive).sum())
        share = 1 / (len(batch.micro_batches) * self.trainer.world_size)  # the parts of one mini-batch count as one
        self.meter.mean("loss/policy", policy_loss, share)
        self.meter.mean("loss/modulation", extra, share)
        for name, values in diagnostics.items():
            self.meter.mean(name, values.sum(), values.numel())

    def _count(self, batch: MiniBatch, advantages: Tensor) -> None:
        groups = advantages.shape[0]
        size = advantages.shape[1]
        self.meter.mean("advantage/mass_positive", advantages.clamp(min=0).sum() / size, groups)
        self.meter.mean("advantage/mass_negative", -advantages.clamp(max=0).sum() / size, groups)

    def _check_engine(self, gap: Tensor) -> None:
        top = gap.amax() if gap.numel() else torch.zeros((), device=self.device)
        self.meter.mean("engine/logprob_gap_mean", gap.sum(), gap.numel())
        self.meter.maximum("engine/logprob_gap_max", gap)
        worst = float(self.trainer.strategy.reduce(top, reduce_op="max"))
        if not worst <= self.logprob_gap_limit:
            raise EngineMismatchError(
                f"engine and trainer disagree on a sampled token's log-prob by {worst:.3g} (limit policy.logprob_gap_limit="
                f"{self.logprob_gap_limit:g}): the engine's weights are stale, or its precision differs from trainer.precision"
            )

    def _reduce_gradients(self, last: bool) -> AbstractContextManager:
        """Gradients are reduced over ranks once, with the last micro-batch."""
        wrapped = self.trainer.strategy.model
        return nullcontext() if last or not hasattr(wrapped, "no_sync") else wrapped.no_sync()  # type: ignore[union-attr,operator]

    def configure_optimizers(self) -> Any:
        s = self.settings
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=s.learning_rate, betas=(s.betas[0], s.betas[1]), weight_decay=s.weight_decay, eps=s.eps
        )
        warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / max(1, s.warmup_steps)))
        return [optimizer], [warmup]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["modulation"] = [m.state_dict() for m in self.algorithm.modulation]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for modulation, state in zip(self.algorithm.modulation, checkpoint["modulation"], strict=True):
            modulation.load_state_dict(state)
