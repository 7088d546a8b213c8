"""The policy: it scores tokens, and takes one optimizer step per mini-batch of complete groups."""

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from jaxtyping import Float
from lightning import LightningModule
from torch import Tensor

from asym_lightning.algorithms import Algorithm, Tokens
from asym_lightning.algorithms.tokens import Scores
from asym_lightning.learner.adapters import has_adapters, merged_state_dict
from asym_lightning.learner.attention import register_attention, use_packed_attention
from asym_lightning.learner.backward_plan import BackwardPlan, plan_backward
from asym_lightning.learner.batch import MiniBatch, PackedBatch, StepRecord
from asym_lightning.learner.checkpoint_names import as_in_checkpoint
from asym_lightning.learner.engine_check import compare_with_engine
from asym_lightning.learner.fsdp import full_tensor
from asym_lightning.learner.head import output_head
from asym_lightning.learner.hidden import last_hidden_states
from asym_lightning.learner.logprob import token_logprobs
from asym_lightning.learner.noise import switch_off_noise
from asym_lightning.learner.optimizer import OptimizerSettings, build_optimizer
from asym_lightning.learner.planning import plan_modulations
from asym_lightning.learner.policy_loss import (
    loss_tokens,
    measure_advantages,
    micro_batch_loss,
    record_loss,
    resampled_loss,
    step_record,
)
from asym_lightning.learner.priors import Prior, score_priors
from asym_lightning.learner.steering import steer
from asym_lightning.learner.strategies import StrategyAdapter, adapter_in
from asym_lightning.learner.transformers_patches import attention_in
from asym_lightning.learner.zero import gathered
from asym_lightning.runtime.meter import Meter
from asym_lightning.runtime.ranks import RolloutShard, gather_rows, reduce_over_ranks
from asym_lightning.runtime.watch.phases import mark


class PolicyModule(LightningModule):
    """A causal language model trained by a policy gradient.

    Args:
        model: a transformers causal LM.
        algorithm: advantage, policy loss, aggregation and modulations.
        optimizer: see :class:`OptimizerSettings`.
        temperature: the rollouts' sampling temperature; scores use it too.
        logprob_gap_limit: largest |engine - trainer| log-prob of a single token (nats); None: any,
            the mean over tokens decides; inf: neither is checked.
        gradient_checkpointing: recompute activations in the backward pass.
        seed: seed of the random choices that a modulation makes.
        compile_layers: torch.compile each decoder layer.
        old_logprobs: the old log-probs in the ratio of a loss: ``trainer``, scored by this policy
            before the first update, or ``engine``, as sampled, which saves the scoring pass.
    """

    def __init__(
        self,
        model: Any,
        algorithm: Algorithm,
        optimizer: OptimizerSettings,
        temperature: float,
        logprob_gap_limit: float | None,
        gradient_checkpointing: bool = False,
        seed: int = 0,
        compile_layers: bool = False,
        old_logprobs: str = "trainer",
    ):
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.model.config.use_cache = False
        # The name of transformers' own attention for this model.
        self.own_attention = attention_in(self.model)
        self.packed, self.compiled = use_packed_attention(self.model), compile_layers
        if gradient_checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        switch_off_noise(self.model)
        self.algorithm, self.settings = algorithm, optimizer
        self.temperature, self.logprob_gap_limit = temperature, logprob_gap_limit
        self.meter, self.seed = Meter(), seed
        # Largest mean gap to the engine that rounding explains; None: not measured yet.
        self.gap_bound: float | None = None
        self.old_is_engine = old_logprobs == "engine"
        self._entropy_grad = any(m.needs_entropy_grad for m in algorithm.modulation)
        # In a list, so that it is neither trained nor saved; a resumed run copies it again.
        self._reference: list[Any] = []
        self.has_adapters = has_adapters(self.model)
        if any(m.needs_reference for m in algorithm.modulation) and not self.has_adapters:
            self._reference = [copy.deepcopy(self.model).eval().requires_grad_(False)]
        # Of the iteration's mini-batches, scored before its first update.
        self._priors: list[Prior] = []
        # Whether a diagnostic reads the tokens of rollouts that nothing is learned from.
        self.diagnostics_read = False
        # The learner's side of the trainer's strategy; without a trainer that of one process.
        self.strategy_adapter = StrategyAdapter(None)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of this module; its model drops nothing out in either."""
        super().train(mode)
        switch_off_noise(self.model)
        return self

    def setup(self, stage: str) -> None:
        if self.packed:
            # A spawned process starts without the registration.
            register_attention(self.compiled)
        if self.compiled:
            for layer in self.model.get_decoder().layers:
                layer.compile(dynamic=True)

    def on_fit_start(self) -> None:
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        self.diagnostics_read = any(getattr(c, "reads_every_token", False) for c in callbacks)

    def configure_model(self) -> None:
        self.strategy_adapter = adapter_in(self.trainer)
        self.strategy_adapter.configure(self)

    @property
    def rollout_shard(self) -> RolloutShard:
        """The part of the rollouts that this rank learns from."""
        return self.strategy_adapter.rollout_shard

    def weights(self, as_checkpoint: bool = False) -> Iterator[tuple[str, Tensor]]:
        """Yield name and full tensor of every weight, adapters merged, a tied output head left out.

        Shards are gathered one tensor at a time, so all ranks must iterate in step.

        Args:
            as_checkpoint: as the files of a checkpoint hold them, not as the model's state dict.
        """
        weights = (
            (name, full_tensor(tensor, self.device))
            for name, tensor in merged_state_dict(self.model, gathered)
        )
        yield from as_in_checkpoint(self.model, weights) if as_checkpoint else weights

    def score(
        self,
        batch: PackedBatch,
        entropy_grad: bool = False,
        model: Any = None,
        temperature: float | None = None,
    ) -> Scores:
        """Return log-probability and entropies of every completion token, in the batch's order.

        Args:
            entropy_grad: let gradients flow through the entropies.
            model: the model to score with; None: the policy's.
            temperature: None: the rollouts'.
        """
        return self.strategy_adapter.forward(
            self, batch, entropy_grad=entropy_grad, model=model, temperature=temperature
        )

    def forward(
        self,
        batch: PackedBatch,
        entropy_grad: bool = False,
        model: Any = None,
        temperature: float | None = None,
    ) -> Scores:
        """Compute what :meth:`score` returns; only a strategy calls it."""
        mark()
        temperature = self.temperature if temperature is None else temperature
        model = self.model if model is None else model
        hidden = last_hidden_states(model.get_decoder(), batch, self.packed)
        head, top_p = output_head(model), self.algorithm.nucleus
        predicting = hidden.index_select(0, batch.predict_at)
        if not batch.targets.numel():
            # An empty micro-batch still takes part in the reduction of gradients over ranks.
            zero_with_graph = hidden.sum() * 0 + head.weight.sum() * 0
            zero_logp = predicting.sum(-1) + zero_with_graph
            # Fill the same fields as with tokens: ranks gather the fields that are not None.
            return Scores(zero_logp, zero_logp, zero_logp if top_p is not None else None)
        logp, entropy, nucleus_entropy = token_logprobs(
            predicting,
            head.weight,
            batch.targets,
            bias=head.bias,
            temperature=temperature / head.scale,
            entropy_grad=entropy_grad,
            top_p=top_p,
            cap=head.cap,
        )
        return Scores(logp, entropy, nucleus_entropy)

    def on_train_epoch_start(self) -> None:
        """Get old log-probs, and the reference's if a modulation needs them, before the updates."""
        mark("score")
        reference = None
        if any(m.needs_reference for m in self.algorithm.modulation):
            reference = self.model if self.has_adapters else self._reference[0].to(self.device)
        batches: list[MiniBatch] = self.trainer.datamodule.mini_batches  # type: ignore[attr-defined]
        self._priors = score_priors(self, batches, reference)

    def training_step(self, batch: MiniBatch, batch_idx: int) -> dict[str, StepRecord]:
        """Take one optimizer step over a mini-batch.

        Returns:
            ``record``: what the step saw, for the callbacks' ``on_train_batch_end``.
        """
        start = time.perf_counter()
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        prior = self._priors[batch_idx]
        batch = replace(batch, rewards=prior.rewards.to(self.device))
        advantages = self._advantages(batch)
        plan = self._plan(batch, prior, advantages.flatten())
        prepared_scores, modulation_plans = self._prepare(batch, plan, advantages.flatten())
        resampled = batch.resampled.micro_batches if batch.resampled is not None else ()
        compared: list[tuple[PackedBatch, Tensor]] = []
        seen = []
        for i, item in enumerate(plan.micro_batches):
            with torch.set_grad_enabled(item.backward):
                scores = prepared_scores[i] or self.score(item.micro, self._entropy_grad)
                tokens = loss_tokens(
                    self.algorithm, item, batch, advantages=advantages.flatten(), scores=scores
                )
                loss = self._loss(item.micro, tokens, modulation_plans[i], plan=plan)
            if item.prior.old is None or (self.old_is_engine and batch_idx == 0):
                compared.append((item.micro, scores.logp.detach()))
            seen.append(tokens.detached())
            if item.backward:
                self._backward(loss, last=not resampled and i + 1 == len(plan.micro_batches))
        for i, micro in enumerate(resampled):
            assert batch.resampled is not None
            logp = self.score(micro).logp
            loss = resampled_loss(self.algorithm, logp, micro, batch=batch.resampled)
            self._backward(loss, last=i + 1 == len(resampled))
        compare_with_engine(self, compared, measure=batch_idx == 0)
        self.meter.mean("optimizer/learning_rate", optimizer.param_groups[0]["lr"], 1)
        norm = self.strategy_adapter.clip_and_step(self, optimizer, self.settings.max_grad_norm)
        self.meter.mean("optimizer/grad_norm", norm, 1)
        measure_advantages(advantages, self.meter)
        self.lr_schedulers().step()  # type: ignore[union-attr]
        record = step_record(batch, plan, seen)
        steer(self.algorithm, record, self.meter, dp_group=self.rollout_shard.dp_group)
        seconds = time.perf_counter() - start
        self.meter.mean("time/learn", seconds, 1 / self.trainer.num_training_batches)
        return {"record": record}

    def _advantages(self, batch: MiniBatch) -> Float[Tensor, "groups G"]:
        """Return the advantages of this rank's groups, computed from the rewards of all ranks."""
        groups, size = batch.rewards.shape
        lengths = batch.lengths.view(groups, size).to(batch.rewards.dtype)
        table = torch.cat([batch.rewards, lengths], 1)
        everywhere, start = gather_rows(table, self.rollout_shard.dp_group)
        rewards, lengths = everywhere[:, :size], everywhere[:, size:].long()
        return self.algorithm.advantages(rewards, lengths)[start : start + groups]

    def _plan(
        self, batch: MiniBatch, prior: Prior, advantages: Float[Tensor, "rollouts"]
    ) -> BackwardPlan:
        """Find the micro-batches that are idle on all ranks, and plan the step without them."""
        modulations, reads = self.algorithm.modulation, "some" if self.diagnostics_read else "none"
        idle = [False] * len(batch.micro_batches)
        if not all(modulation.idle_at_zero for modulation in modulations):
            reads = "all"
        elif idle:
            nonzero = advantages != 0
            flags = torch.stack([nonzero[micro.rows].any() for micro in batch.micro_batches])
            idle = (reduce_over_ranks(flags.long(), "max") == 0).tolist()
        if any(part.observes for part in self.algorithm.steered):
            reads = "all"
        if any(modulation.needs_batch for modulation in modulations):
            reads = "all"
        return plan_backward(
            batch,
            [logprobs.to(self.device) for logprobs in prior.logprobs],
            advantages,
            idle=idle,
            reads=reads,
            share_prompts=self.trainer.datamodule.share_prompts,  # type: ignore[attr-defined]
        )

    def _prepare(
        self, batch: MiniBatch, plan: BackwardPlan, advantages: Float[Tensor, "rollouts"]
    ) -> tuple[Sequence[Scores | None], list[list[Tensor | None]]]:
        """Let modulations look at all tokens of the mini-batch before the first backward pass.

        Returns, for each micro-batch, the scores if the loss can use them again (those of a single
        one and of idle ones), and the plan of each modulation.
        """
        modulations, items = tuple(self.algorithm.modulation), plan.micro_batches
        if not any(m.needs_batch for m in modulations):
            return [None] * len(items), [[None] * len(modulations) for _ in items]
        single = len(items) == 1
        with torch.set_grad_enabled(single):
            scores = [self.score(item.micro, self._entropy_grad) for item in items]
        parts = [
            loss_tokens(self.algorithm, item, batch, advantages=advantages, scores=own).detached()
            for item, own in zip(items, scores, strict=True)
        ]
        plans = plan_modulations(
            modulations,
            parts,
            batch.rewards.shape[1],
            seed=self.seed * 1_000_003 + self.global_step,
            shard=self.rollout_shard,
        )
        reusable = [
            own if single or not item.backward else None
            for own, item in zip(scores, items, strict=True)
        ]
        return reusable, plans

    def _loss(
        self,
        micro: PackedBatch,
        tokens: Tokens,
        modulation_plans: Sequence[Tensor | None],
        *,
        plan: BackwardPlan,
    ) -> Float[Tensor, ""]:
        """Return the loss of a micro-batch and record it; ``tokens`` get their final advantages."""
        loss = micro_batch_loss(
            self.algorithm,
            tokens,
            modulation_plans,
            engine_logp=micro.engine_logp,
            old_is_engine=self.old_is_engine,
        )
        record_loss(loss, tokens, plan, meter=self.meter, shards=self.rollout_shard.count)
        return loss.total

    def _backward(self, loss: Float[Tensor, ""], last: bool) -> None:
        """Accumulate the gradient of ``loss``; ``last``: in the last backward pass of an update."""
        with self.strategy_adapter.accumulating(self, last):
            # The reduction averages over shards; the loss is a sum over them.
            self.manual_backward(loss * self.rollout_shard.count)

    def configure_optimizers(self) -> Any:
        optimizer, warmup = build_optimizer(self.settings, self.parameters())
        return [optimizer], [warmup]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["algorithm"] = [part.state_dict() for part in self.algorithm.steered]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for part, state in zip(self.algorithm.steered, checkpoint["algorithm"], strict=True):
            part.load_state_dict(state)
