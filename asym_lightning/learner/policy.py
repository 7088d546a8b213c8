"""The policy: scores tokens, and takes one optimizer step over one mini-batch of whole groups per training step."""

import copy
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from lightning import LightningModule
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from asym_lightning.algorithms import Algorithm, LossInputs, Tokens
from asym_lightning.algorithms.steering import Observation
from asym_lightning.algorithms.tokens import Scores
from asym_lightning.learner.adapters import adapted, merged, without_adapters
from asym_lightning.learner.attention import register_attention, use_packed_attention
from asym_lightning.learner.batch import MiniBatch, PackedBatch
from asym_lightning.learner.fsdp import FSDP2, accumulate, shard, share_of, step, whole
from asym_lightning.learner.logprob import token_logprobs
from asym_lightning.learner.optimizer import OptimizerSettings, build_optimizer
from asym_lightning.learner.packing import standing, thinned
from asym_lightning.learner.planning import plans
from asym_lightning.learner.zero import present
from asym_lightning.runtime.meter import Meter
from asym_lightning.runtime.ranks import Share, gather_rows, over_ranks
from asym_lightning.runtime.watch.phases import mark

IDLE_EVERY = 8  # of the rollouts of a group without a gradient, one in so many counts for all in the diagnostics


class EngineMismatchError(RuntimeError):
    """The engine sampled from another policy than the trainer's: stale or wrong weights, or another precision."""


class PolicyModule(LightningModule):
    """A causal language model trained by a policy gradient.

    Args:
        model: a transformers causal LM.
        algorithm: advantage, policy loss, aggregation and modulations.
        optimizer: see :class:`OptimizerSettings`.
        temperature: the rollouts' sampling temperature; scores use it too.
        logprob_gap_limit: largest allowed |engine - trainer| log-probability of a sampled token (nats).
        gradient_checkpointing: recompute activations in the backward pass.
        seed: of the random choices that a modulation makes.
        compile_layers: torch.compile each decoder layer.
        old_logprobs: whose log-probs the ratio of a loss is against: ``trainer``, scored by this policy before the first update, or
            ``engine``, as sampled, which spares that pass.
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
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self.algorithm, self.settings = algorithm, optimizer
        self.temperature, self.logprob_gap_limit = temperature, logprob_gap_limit
        self.meter, self.seed = Meter(), seed
        self.old_is_engine = old_logprobs == "engine"
        self._entropy_grad = any(m.needs_entropy_grad for m in algorithm.modulation)
        self._reference: list[Any] = []  # in a list: neither trained nor saved; a resumed run makes it anew from the same start
        self.adapted = adapted(self.model)
        if any(m.needs_reference for m in algorithm.modulation) and not self.adapted:
            self._reference = [copy.deepcopy(self.model).eval().requires_grad_(False)]

    def setup(self, stage: str) -> None:
        if self.packed:
            register_attention(self.compiled)  # a spawned process starts without it
        if self.compiled:
            for layer in self.model.get_decoder().layers:
                layer.compile(dynamic=True)

    def configure_model(self) -> None:
        strategy = self.trainer.strategy
        if isinstance(strategy, FSDP2) and not isinstance(self, FSDPModule):
            shard(self, self.model, strategy)

    @property
    def share(self) -> Share:
        """Which part of the rollouts this rank learns from."""
        return share_of(self.trainer)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Name and tensor of every weight under its transformers name, adapters merged; a tied output head is its embedding and left
        out. Shards are gathered one tensor at a time, by all ranks in step."""
        for name, tensor in merged(self.model, present):
            yield name, whole(tensor, self.device)

    def forward(self, *given: Any, **named: Any) -> Scores:
        """What DeepSpeed's engine calls for ``score``."""
        return PolicyModule.score(self, *given, **named)

    def score(self, batch: PackedBatch, entropy_grad: bool = False, model: Any = None, temperature: float | None = None) -> Scores:
        """Log-probability and entropies of every completion token of a micro-batch, in its order; at the rollouts' temperature unless
        another is given."""
        mark()
        temperature = self.temperature if temperature is None else temperature
        model = self.model if model is None else model
        base = model.get_decoder()
        layout = {"layout": batch.layout} if self.packed else {}
        hidden = base(input_ids=batch.input_ids[None], position_ids=batch.position_ids[None], use_cache=False, **layout).last_hidden_state[
            0
        ]
        head, top_p = model.get_output_embeddings(), self.algorithm.nucleus
        chosen = hidden.index_select(0, batch.predict_at)
        if not batch.targets.numel():  # an empty micro-batch still takes part in the gradient's reduction
            nothing = hidden.sum() * 0 + head.weight.sum() * 0
            none = chosen.sum(-1) + nothing
            return Scores(none, none, none if top_p is not None else None)  # the same fields as elsewhere: ranks lay them side by side
        return Scores(*token_logprobs(chosen, head.weight, batch.targets, head.bias, temperature, entropy_grad, top_p=top_p))

    def on_train_epoch_start(self) -> None:
        """Score with the reference where there is one; get the old log-probs before the first update: the engine's as sampled, or, where
        several updates follow, the trainer's, scored once."""
        mark("score")
        batches: list[MiniBatch] = self.trainer.datamodule.mini_batches  # type: ignore[attr-defined]
        if any(m.needs_reference for m in self.algorithm.modulation):
            self._score_reference(batches)
        if self.old_is_engine:
            for micro in (micro for batch in batches for micro in batch.micro_batches):
                micro.old_logp = micro.engine_logp
        if self.old_is_engine or len(batches) == 1:
            return
        start = time.perf_counter()
        with torch.no_grad(), self.trainer.precision_plugin.forward_context():
            for batch in batches:
                for micro in batch.micro_batches:
                    micro.old_logp = self.score(micro.to(self.device))[0].cpu()
        gaps = [(m.old_logp - m.engine_logp).abs() for b in batches for m in b.micro_batches if m.old_logp is not None]
        self._check_engine(torch.cat(gaps).to(self.device))
        self.meter.mean("time/score", time.perf_counter() - start, 1)

    @torch.no_grad()
    def _score_reference(self, batches: list[MiniBatch]) -> None:
        reference = self.model if self.adapted else self._reference[0].to(self.device)
        for batch in batches:
            terms = torch.zeros(batch.rewards.numel())
            for micro in batch.micro_batches:
                with self.trainer.precision_plugin.forward_context(), without_adapters(reference):
                    micro.reference_logp = self.score(micro.to(self.device), model=reference).logp.float().cpu()
                for modulation in self.algorithm.modulation:
                    term = modulation.reward_term(micro.engine_logp, micro.reference_logp)
                    if term is not None:
                        terms.index_add_(0, micro.rows, term)
                gap = micro.engine_logp - micro.reference_logp
                self.meter.mean("kl/reference", gap.sum(), gap.numel())
            batch.rewards = batch.rewards + terms.view_as(batch.rewards)
            self.meter.mean("reward/kl_term", terms.sum(), terms.numel())

    def training_step(self, batch: MiniBatch, batch_idx: int) -> None:
        start = time.perf_counter()
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        advantages = self._advantages(batch)
        idle = self._idle(batch, advantages.flatten())
        ready, planned = self._prepare(batch, advantages.flatten(), idle)
        further = batch.resampled.micro_batches if batch.resampled is not None else []
        gaps = []
        for i, micro in enumerate(batch.micro_batches):
            micro.learned = not idle[i]
            with torch.set_grad_enabled(micro.learned):
                scores = ready[i] or self.score(micro, self._entropy_grad)
                loss = self._loss(micro, batch, advantages.flatten(), scores, planned[i])
            if micro.old_logp is None or (self.old_is_engine and batch_idx == 0):
                gaps.append((scores.logp.detach() - micro.engine_logp).abs())
            if micro.old_logp is None:
                micro.old_logp = scores.logp.detach()
            if micro.learned:
                with accumulate(self, not further and i + 1 == len(batch.micro_batches)):
                    self.manual_backward(loss * self.share.count)
        for i, micro in enumerate(further):
            loss = self._resampled_loss(micro, batch.resampled)  # type: ignore[arg-type]
            with accumulate(self, i + 1 == len(further)):
                self.manual_backward(loss * self.share.count)
        if gaps:
            self._check_engine(torch.cat(gaps))
        self.meter.mean("optimizer/learning_rate", optimizer.param_groups[0]["lr"], 1)
        self.meter.mean("optimizer/grad_norm", step(self, optimizer, self.settings.max_grad_norm), 1)
        self._count(batch, advantages)
        self.lr_schedulers().step()  # type: ignore[union-attr]
        self._steer(batch)
        self.meter.mean("time/learn", time.perf_counter() - start, 1 / self.trainer.num_training_batches)

    def _advantages(self, batch: MiniBatch) -> Float[Tensor, "groups G"]:
        """Advantages of this rank's groups, made from the rewards of all ranks."""
        groups, size = batch.rewards.shape
        own = torch.cat([batch.rewards, batch.lengths.view(groups, size).to(batch.rewards.dtype)], 1)
        whole, start = gather_rows(own, self.share.peers)
        return self.algorithm.advantages(whole[:, :size], whole[:, size:].long())[start : start + groups]

    def _idle(self, batch: MiniBatch, advantages: Float[Tensor, "rollouts"]) -> list[bool]:
        """For each micro-batch whether no gradient comes from it on any rank: all its advantages are 0, and no part acts there. Of such
        ones some rollouts are scored, for the diagnostics that read every token, all for parts that do, and none where nothing does.
        The last one always has a gradient, which may be 0: with it the ranks reduce theirs."""
        if not all(m.idle_at_zero for m in self.algorithm.modulation):
            return [False] * len(batch.micro_batches)
        acting = torch.zeros(len(advantages) + 1, dtype=torch.bool, device=advantages.device)
        acting[:-1] = advantages != 0
        flags = [acting[micro.rows].any() for micro in batch.micro_batches]
        idle = (over_ranks(torch.stack(flags).long(), "max") == 0).tolist() if flags else []
        idle[-1:] = [False]
        watched = any(p.observes for p in self.algorithm.steered) or any(m.needs_batch for m in self.algorithm.modulation)
        if watched:
            return idle
        if any(getattr(callback, "reads_every_token", False) for callback in self.trainer.callbacks):  # type: ignore[attr-defined]
            share: bool = self.trainer.datamodule.share_prompts  # type: ignore[attr-defined]
            batch.stand = standing(batch.tokens("rows"), acting[:-1].view_as(batch.right), IDLE_EVERY)
            batch.micro_batches = [
                thinned(micro, batch.groups, batch.stand, share) if drop else micro
                for micro, drop in zip(batch.micro_batches, idle, strict=True)
            ]
            return idle
        batch.micro_batches = [micro for micro, drop in zip(batch.micro_batches, idle, strict=True) if not drop]
        return [False] * len(batch.micro_batches)

    def _prepare(
        self, batch: MiniBatch, advantages: Tensor, idle: Sequence[bool]
    ) -> tuple[Sequence[Scores | None], list[list[Tensor | None]]]:
        """Let modulations look at the whole mini-batch. Returns per micro-batch the scores where they will do for the loss already
        (those of a single one, and of idle ones) and each modulation's plan."""
        modulations = tuple(self.algorithm.modulation)
        if not any(m.needs_batch for m in modulations):
            return [None] * len(idle), [[None] * len(modulations) for _ in idle]
        with torch.set_grad_enabled(len(batch.micro_batches) == 1):
            scores = [self.score(micro, self._entropy_grad) for micro in batch.micro_batches]
        parts = [self._tokens(m, batch, advantages, s).detached() for m, s in zip(batch.micro_batches, scores, strict=True)]
        planned = plans(modulations, parts, batch.rewards.shape[1], self.seed * 1_000_003 + self.global_step, self.share)
        return [one if len(scores) == 1 or unused else None for one, unused in zip(scores, idle, strict=True)], planned

    def _tokens(self, micro: PackedBatch, batch: MiniBatch, advantages: Tensor, scores: Scores) -> Tokens:
        old = scores.logp.detach() if micro.old_logp is None else micro.old_logp
        weights = self.algorithm.aggregation.weights(batch.lengths[micro.rows], batch.token_count, batch.rollout_count)
        own = advantages[micro.rows].to(scores.logp.dtype)
        return Tokens(scores.logp, old, scores.entropy, own, micro.rows, weights, scores.nucleus_entropy, micro.reference_logp)

    def _loss(self, micro: PackedBatch, batch: MiniBatch, advantages: Tensor, scores: Scores, planned: list[Tensor | None]) -> Tensor:
        tokens = self._tokens(micro, batch, advantages, scores)
        terms = []
        for modulation, plan in zip(self.algorithm.modulation, planned, strict=True):
            tokens.plan = plan
            tokens.advantages = modulation.shape_advantages(tokens.detached())
            terms.append(modulation.loss_term(tokens))
        inputs = LossInputs(tokens.logp, tokens.old_logp, tokens.advantages, micro.rows)
        out = self.algorithm.policy_loss(inputs, micro.engine_logp, self.old_is_engine)
        policy_loss = (out.per_token * tokens.weights).sum()
        extra = sum(((term * tokens.weights).sum() for term in terms if term is not None), start=policy_loss.new_zeros(()))
        empty = tokens.logp.sum() * 0 if not tokens.logp.numel() else 0.0
        micro.logp, micro.entropy, micro.advantages = tokens.logp.detach(), tokens.entropy.detach(), tokens.advantages
        share = 1 / (len(batch.micro_batches) * self.share.count)  # the parts of one mini-batch count as one
        self.meter.mean("loss/policy", policy_loss, share)
        self.meter.mean("loss/modulation", extra, share)
        counted = torch.ones_like(tokens.logp) if batch.stand is None else batch.stand[micro.rows]
        for name, values in out.diagnostics.items():
            self.meter.mean(name, (values * counted).sum(), counted.sum())
        return policy_loss + extra + empty

    def _resampled_loss(self, micro: PackedBatch, batch: MiniBatch) -> Tensor:
        """REINFORCE on right rollouts drawn at another temperature."""
        rules = self.algorithm.rules
        assert rules.resample is not None
        logp = self.score(micro).logp
        weights = self.algorithm.aggregation.weights(batch.lengths[micro.rows], batch.token_count, batch.rollout_count)
        return -rules.resample.coef * (logp * weights).sum() + logp.sum() * 0

    def _steer(self, batch: MiniBatch) -> None:
        """Tell the parts that adapt what this step saw."""
        for part in self.algorithm.steered:
            for name, value in part.metrics().items():
                self.meter.mean(name, value, 1)
        if any(part.observes for part in self.algorithm.steered):
            entropy, right = batch.tokens("entropy").double(), batch.right.flatten()[batch.tokens("rows")]
            masks = torch.stack([torch.ones_like(right), right, ~right]).double()
            totals, counts = over_ranks(torch.stack([masks @ entropy, masks.sum(1)]), "sum", self.share.peers)
            seen = Observation(*(totals / counts).tolist())
            for part in self.algorithm.steered if counts[0] else ():  # all rollouts may be cut off and left out
                part.observe(seen)

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
            beyond, tokens = over_ranks(torch.tensor([int((~(gap <= self.logprob_gap_limit)).sum()), gap.numel()]), "sum").tolist()
            raise EngineMismatchError(
                f"engine and trainer disagree on a sampled token's log-prob by {worst:.3g} (limit policy.logprob_gap_limit="
                f"{self.logprob_gap_limit:g}, passed by {beyond} of {tokens} tokens): the engine's weights are stale, or its precision "
                "differs from trainer.precision"
            )

    def configure_optimizers(self) -> Any:
        optimizer, warmup = build_optimizer(self.settings, self.parameters())
        return [optimizer], [warmup]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["algorithm"] = [part.state_dict() for part in self.algorithm.steered]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for part, state in zip(self.algorithm.steered, checkpoint["algorithm"], strict=True):
            part.load_state_dict(state)
