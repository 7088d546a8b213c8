"""The policy: it scores tokens, and takes one optimizer step per mini-batch of complete groups."""

import copy
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from lightning import Callback, LightningModule
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from asym_lightning.algorithms import Algorithm
from asym_lightning.algorithms.tokens import Scores
from asym_lightning.learner.adapters import has_adapters, merged_state_dict
from asym_lightning.learner.attention import register_attention, use_packed_attention
from asym_lightning.learner.batch import MiniBatch, PackedBatch
from asym_lightning.learner.engine_check import check_engine
from asym_lightning.learner.fsdp import FSDP2, full_tensor, shard_policy
from asym_lightning.learner.idle import reduce_idle
from asym_lightning.learner.logprob import token_logprobs
from asym_lightning.learner.optimizer import OptimizerSettings, build_optimizer
from asym_lightning.learner.planning import plan_modulations
from asym_lightning.learner.policy_loss import (
    loss_tokens,
    micro_batch_loss,
    record_loss,
    resampled_loss,
)
from asym_lightning.learner.reference import score_reference
from asym_lightning.learner.steering import steer
from asym_lightning.learner.strategies import accumulating, clip_and_step, shard_of
from asym_lightning.learner.zero import gathered
from asym_lightning.runtime.meter import Meter
from asym_lightning.runtime.ranks import RolloutShard, gather_rows
from asym_lightning.runtime.watch.phases import mark


class PolicyModule(LightningModule):
    """A causal language model trained by a policy gradient.

    Args:
        model: a transformers causal LM.
        algorithm: advantage, policy loss, aggregation and modulations.
        optimizer: see :class:`OptimizerSettings`.
        temperature: the rollouts' sampling temperature; scores use it too.
        logprob_gap_limit: largest allowed |engine - trainer| log-probability of a sampled token
            (nats).
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
        logprob_gap_limit: float,
        gradient_checkpointing: bool = False,
        seed: int = 0,
        compile_layers: bool = False,
        old_logprobs: str = "trainer",
    ):
        super().__init__()
        self.automatic_optimization = False
        self.model = model.train()
        self.model.config.use_cache = False
        self.packed, self.compiled = use_packed_attention(self.model), compile_layers
        if gradient_checkpointing:
            self.model.gradient_checkpointing_enable(
                gradient_checkpointing_kwargs={"use_reentrant": False}
            )
        self.algorithm, self.settings = algorithm, optimizer
        self.temperature, self.logprob_gap_limit = temperature, logprob_gap_limit
        self.meter, self.seed = Meter(), seed
        self.old_is_engine = old_logprobs == "engine"
        self._entropy_grad = any(m.needs_entropy_grad for m in algorithm.modulation)
        # The reference model is in a list, so that it is neither a trained submodule nor saved;
        # a resumed run copies it again from the same initial weights.
        self._reference: list[Any] = []
        self.has_adapters = has_adapters(self.model)
        if any(m.needs_reference for m in algorithm.modulation) and not self.has_adapters:
            self._reference = [copy.deepcopy(self.model).eval().requires_grad_(False)]

    def setup(self, stage: str) -> None:
        if self.packed:
            # A spawned process starts without the registration.
            register_attention(self.compiled)
        if self.compiled:
            for layer in self.model.get_decoder().layers:
                layer.compile(dynamic=True)

    def configure_model(self) -> None:
        strategy = self.trainer.strategy
        if isinstance(strategy, FSDP2) and not isinstance(self, FSDPModule):
            shard_policy(self, self.model, strategy)

    @property
    def rollout_shard(self) -> RolloutShard:
        """The part of the rollouts that this rank learns from."""
        return shard_of(self.trainer)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield name and full tensor of every weight under its transformers name, adapters merged.

        A tied output head is its embedding and left out. Shards are gathered one tensor at a time,
        so all ranks must iterate in step.
        """
        for name, tensor in merged_state_dict(self.model, gathered):
            yield name, full_tensor(tensor, self.device)

    def forward(self, *args: Any, **kwargs: Any) -> Scores:
        """Score a micro-batch; DeepSpeed's engine calls ``forward`` for ``score``."""
        return PolicyModule.score(self, *args, **kwargs)

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
        mark()
        temperature = self.temperature if temperature is None else temperature
        model = self.model if model is None else model
        decoder = model.get_decoder()
        layout = {"layout": batch.layout} if self.packed else {}
        hidden = decoder(
            input_ids=batch.input_ids[None],
            position_ids=batch.position_ids[None],
            use_cache=False,
            **layout,
        ).last_hidden_state[0]
        head, top_p = model.get_output_embeddings(), self.algorithm.nucleus
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
            temperature=temperature,
            entropy_grad=entropy_grad,
            top_p=top_p,
        )
        return Scores(logp, entropy, nucleus_entropy)

    def on_train_epoch_start(self) -> None:
        """Score with the reference if a modulation needs it; set old log-probs before the updates.

        They are the engine's as sampled (``old_is_engine``), or, for several updates, scored once
        by the trainer. A single update takes them from its own forward pass instead.
        """
        mark("score")
        batches: list[MiniBatch] = self.trainer.datamodule.mini_batches  # type: ignore[attr-defined]
        micro_batches = [micro for batch in batches for micro in batch.micro_batches]
        if any(m.needs_reference for m in self.algorithm.modulation):
            reference = self.model if self.has_adapters else self._reference[0].to(self.device)
            score_reference(self, reference, batches)
        if self.old_is_engine:
            for micro in micro_batches:
                micro.old_logp = micro.engine_logp
            return
        if len(batches) == 1:
            return
        start = time.perf_counter()
        gaps = []
        with torch.no_grad(), self.trainer.precision_plugin.forward_context():
            for micro in micro_batches:
                old_logp = self.score(micro.to(self.device)).logp.cpu()
                gaps.append((old_logp - micro.engine_logp).abs())
                micro.old_logp = old_logp
        self._check_engine(torch.cat(gaps).to(self.device))
        self.meter.mean("time/score", time.perf_counter() - start, 1)

    def training_step(self, batch: MiniBatch, batch_idx: int) -> None:
        """Take one optimizer step over a mini-batch, and store on it what diagnostics read."""
        start = time.perf_counter()
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        advantages = self._advantages(batch)
        idle = self._idle(batch, advantages.flatten())
        prepared_scores, plans = self._prepare(batch, advantages.flatten(), idle)
        resampled = batch.resampled.micro_batches if batch.resampled is not None else []
        gaps = []
        for i, micro in enumerate(batch.micro_batches):
            micro.learned = not idle[i]
            with torch.set_grad_enabled(micro.learned):
                scores = prepared_scores[i] or self.score(micro, self._entropy_grad)
                loss = self._loss(micro, batch, advantages.flatten(), scores=scores, plans=plans[i])
            logp = scores.logp.detach()
            if micro.old_logp is None or (self.old_is_engine and batch_idx == 0):
                gaps.append((logp - micro.engine_logp).abs())
            if micro.old_logp is None:
                micro.old_logp = logp
            if micro.learned:
                last = not resampled and i + 1 == len(batch.micro_batches)
                self._backward(loss, last)
        for i, micro in enumerate(resampled):
            assert batch.resampled is not None
            loss = resampled_loss(
                self.algorithm, self.score(micro).logp, micro, batch=batch.resampled
            )
            self._backward(loss, i + 1 == len(resampled))
        if gaps:
            self._check_engine(torch.cat(gaps))
        self.meter.mean("optimizer/learning_rate", optimizer.param_groups[0]["lr"], 1)
        norm = clip_and_step(self, optimizer, self.settings.max_grad_norm)
        self.meter.mean("optimizer/grad_norm", norm, 1)
        self._measure_advantages(advantages)
        self.lr_schedulers().step()  # type: ignore[union-attr]
        steer(self.algorithm, batch, self.meter, dp_group=self.rollout_shard.dp_group)
        seconds = time.perf_counter() - start
        self.meter.mean("time/learn", seconds, 1 / self.trainer.num_training_batches)

    def _advantages(self, batch: MiniBatch) -> Float[Tensor, "groups G"]:
        """Return the advantages of this rank's groups, computed from the rewards of all ranks."""
        groups, size = batch.rewards.shape
        lengths = batch.lengths.view(groups, size).to(batch.rewards.dtype)
        table = torch.cat([batch.rewards, lengths], 1)
        everywhere, start = gather_rows(table, self.rollout_shard.dp_group)
        rewards, lengths = everywhere[:, :size], everywhere[:, size:].long()
        return self.algorithm.advantages(rewards, lengths)[start : start + groups]

    def _idle(self, batch: MiniBatch, advantages: Float[Tensor, "rollouts"]) -> list[bool]:
        """Find the idle micro-batches and reduce them: see :func:`reduce_idle`."""
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        return reduce_idle(
            batch,
            advantages,
            self.algorithm,
            callbacks_read=any(getattr(c, "reads_every_token", False) for c in callbacks),
            share_prompts=self.trainer.datamodule.share_prompts,  # type: ignore[attr-defined]
        )

    def _prepare(
        self, batch: MiniBatch, advantages: Float[Tensor, "rollouts"], idle: Sequence[bool]
    ) -> tuple[Sequence[Scores | None], list[list[Tensor | None]]]:
        """Let modulations look at all tokens of the mini-batch before the first backward pass.

        Returns:
            For each micro-batch the scores if the loss can use them again (those of a single
            micro-batch and of idle ones), and the plan of each modulation.
        """
        modulations = tuple(self.algorithm.modulation)
        if not any(m.needs_batch for m in modulations):
            return [None] * len(idle), [[None] * len(modulations) for _ in idle]
        single = len(batch.micro_batches) == 1
        with torch.set_grad_enabled(single):
            scores = [self.score(micro, self._entropy_grad) for micro in batch.micro_batches]
        parts = [
            loss_tokens(
                self.algorithm, micro, batch, advantages=advantages, scores=micro_scores
            ).detached()
            for micro, micro_scores in zip(batch.micro_batches, scores, strict=True)
        ]
        plans = plan_modulations(
            modulations,
            parts,
            batch.rewards.shape[1],
            seed=self.seed * 1_000_003 + self.global_step,
            shard=self.rollout_shard,
        )
        reusable = [
            micro_scores if single or is_idle else None
            for micro_scores, is_idle in zip(scores, idle, strict=True)
        ]
        return reusable, plans

    def _loss(
        self,
        micro: PackedBatch,
        batch: MiniBatch,
        advantages: Float[Tensor, "rollouts"],
        *,
        scores: Scores,
        plans: Sequence[Tensor | None],
    ) -> Float[Tensor, ""]:
        """Return the loss of a micro-batch, and record it.

        Log-probs, entropies and shaped advantages are stored on ``micro`` for diagnostics.
        """
        tokens = loss_tokens(self.algorithm, micro, batch, advantages=advantages, scores=scores)
        loss = micro_batch_loss(
            self.algorithm,
            tokens,
            plans,
            engine_logp=micro.engine_logp,
            old_is_engine=self.old_is_engine,
        )
        micro.logp, micro.entropy = tokens.logp.detach(), tokens.entropy.detach()
        micro.advantages = tokens.advantages
        record_loss(loss, tokens, batch, meter=self.meter, shards=self.rollout_shard.count)
        return loss.total

    def _backward(self, loss: Float[Tensor, ""], last: bool) -> None:
        """Accumulate the gradient of ``loss``; ``last``: in the last backward pass of an update."""
        with accumulating(self, last):
            # The reduction averages over shards; the loss is a sum over them.
            self.manual_backward(loss * self.rollout_shard.count)

    def _measure_advantages(self, advantages: Float[Tensor, "groups G"]) -> None:
        groups, size = advantages.shape
        self.meter.mean("advantage/mass_positive", advantages.clamp(min=0).sum() / size, groups)
        self.meter.mean("advantage/mass_negative", -advantages.clamp(max=0).sum() / size, groups)

    def _check_engine(self, gap: Float[Tensor, "n"]) -> None:
        strategy = self.trainer.strategy
        check_engine(gap, self.logprob_gap_limit, self.meter, strategy=strategy)

    def configure_optimizers(self) -> Any:
        optimizer, warmup = build_optimizer(self.settings, self.parameters())
        return [optimizer], [warmup]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["algorithm"] = [part.state_dict() for part in self.algorithm.steered]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for part, state in zip(self.algorithm.steered, checkpoint["algorithm"], strict=True):
            part.load_state_dict(state)
