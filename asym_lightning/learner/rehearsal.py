"""A rehearsal before the first iteration: one prompt through engine, policy and transformers.

What a model needs and a part of the chain leaves out shows here, within seconds: a scale or cap
after the head, an operation that the engine computes differently, a sync that does not arrive.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from asym_lightning.learner.attention import ATTENTION_NAME
from asym_lightning.learner.batch import PackedBatch
from asym_lightning.learner.engine_check import bound_of_rounding, measure_gap
from asym_lightning.learner.packing import pack
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.learner.transformers_patches import set_attention
from asym_lightning.types import Completion, ConfigError, EngineMismatchError

log = logging.getLogger(__name__)
# Completions of the prompt, and the tokens of each.
SAMPLES, TOKENS = 2, 16
# Errors by which an engine's code shows that it does not know an architecture.
_RUNTIME = (RuntimeError, NotImplementedError, EngineMismatchError)
_OF_CODE = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError),
    *(RuntimeError, TypeError, ValueError),
)


@dataclass(frozen=True)
class Rehearsed:
    """Mean gaps (nats) over the tokens that the engine sampled; None: not compared.

    Transformers' own forward pass needs all weights on a rank, and layers that are not compiled.

    Attributes:
        bound: the largest that rounding explains.
        packed: between the policy's log-probs and transformers' own forward pass.
        loaded: between the engine, as it loaded the model's folder, and the policy.
        synced: between the engine, after a sync of the same weights, and the policy.
    """

    bound: float
    packed: float | None
    loaded: float | None
    synced: float


def rehearse(
    policy: PolicyModule,
    prompt: Sequence[int],
    draw: Callable[[], Sequence[Completion]],
    *,
    sync: Callable[[], None],
    as_loaded: bool,
) -> Rehearsed:
    """Sample from an engine before and after its first sync, and compare log-probs. Collective.

    Args:
        prompt: token ids.
        draw: samples a few completions of the prompt, the same ones from the same weights.
        sync: gives the engine the policy's weights.
        as_loaded: the policy's weights are those of the folder that the engine loaded.

    Raises:
        ConfigError: log-probs differ by more than rounding explains, or the sync fails.
    """
    loaded, exact = None, str(policy.trainer.precision).startswith("32")
    if as_loaded:
        with _in_one_line("cannot run this architecture"):
            drawn = draw()
        batch = _packed(prompt, drawn).to(policy.device)
        loaded = _mean_gap(_scores(policy, batch), batch.engine_logp, exact)
    with _in_one_line("cannot take new weights of this architecture"):
        sync()
        drawn = draw()
    batch = _packed(prompt, drawn).to(policy.device)
    logp, packed = _scores(policy, batch), None
    if policy.strategy_adapter.replicated and not policy.compiled:
        packed = _mean_gap(logp, dense_logprobs(policy, prompt, drawn), exact)
    synced = _mean_gap(logp, batch.engine_logp, exact)
    found = Rehearsed(bound_of_rounding(policy, batch, logp), packed, loaded, synced=synced)
    log.debug("rehearsal: %s", found)
    refuse(found)
    return found


def refuse(found: Rehearsed) -> None:
    """Refuse what a rehearsal found.

    Raises:
        ConfigError: log-probs differ by more than rounding explains, or are not numbers.
    """

    def wrong(gap: float | None) -> bool:
        return gap is not None and not gap <= found.bound

    if found.packed != found.packed or found.synced != found.synced:
        raise ConfigError(
            "policy.path: log-probs of the model are not numbers: its weights are broken, or this "
            "precision is too low for them"
        )
    explains = f"rounding explains {found.bound:.3g}"
    if wrong(found.packed):
        raise ConfigError(
            "policy.path: the policy's log-probs differ from transformers' own by "
            f"{found.packed:.3g} nats on average, and {explains}: this model's architecture needs "
            "an operation that packed sequences or the output head leave out here; report this "
            "with its config.json"
        )
    if not wrong(found.synced):
        return
    if wrong(found.loaded):
        raise ConfigError(
            "rollout: the engine computes this model differently from transformers: log-probs "
            f"differ by {found.synced:.3g} nats on average before any update, and {explains}. Set "
            "rollout=transformers, or use another version of vLLM"
        )
    raise ConfigError(
        "rollout: the engine's log-probs after a sync of unchanged weights differ from the "
        f"policy's by {found.synced:.3g} nats on average, and {explains}: the sync does not bring "
        "all weights of this architecture to the engine. Set rollout=transformers"
    )


@contextmanager
def _in_one_line(failure: str) -> Iterator[None]:
    """Turn an error of an engine that meets an architecture for the first time into one line."""
    try:
        yield
    except _OF_CODE as error:
        if isinstance(error, RuntimeError) and type(error) not in _RUNTIME:
            raise  # such as a server's that is gone
        log.debug("the engine %s", failure, exc_info=True)
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}".rstrip(": ")
        raise ConfigError(
            f"rollout: the engine {failure} ({reason}). Set rollout=transformers"
        ) from error


def dense_logprobs(
    policy: PolicyModule, prompt: Sequence[int], drawn: Sequence[Completion]
) -> Float[Tensor, "n"]:
    """Log-probs (nats) of sampled tokens by transformers' forward pass, a sequence at a time."""
    rows = []
    with torch.no_grad(), own_attention(policy), _precision(policy):
        for completion in drawn:
            ids = torch.tensor([[*prompt, *completion.token_ids]], device=policy.device)
            logits = policy.model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
            logp = (logits.float() / policy.temperature).log_softmax(-1)
            rows.append(logp.gather(1, ids[0, len(prompt) :, None])[:, 0])
    return torch.cat(rows)


@contextmanager
def own_attention(policy: PolicyModule) -> Iterator[None]:
    """Let the policy's model use transformers' own attention within the context."""
    if not policy.packed:
        yield
        return
    set_attention(policy.model, policy.own_attention)
    try:
        yield
    finally:
        set_attention(policy.model, ATTENTION_NAME)


def _precision(policy: PolicyModule) -> Any:
    return policy.trainer.precision_plugin.forward_context()


def _scores(policy: PolicyModule, batch: PackedBatch) -> Float[Tensor, "n"]:
    with torch.no_grad(), _precision(policy):
        return policy.score(batch).logp


def _packed(prompt: Sequence[int], drawn: Sequence[Completion]) -> PackedBatch:
    return pack([(i, prompt, completion) for i, completion in enumerate(drawn)])


def _mean_gap(logp: Tensor, other: Tensor, exact: bool) -> float:
    """The mean gap (nats) over the tokens of all ranks.

    Args:
        exact: computed in fp32. Otherwise a few tokens may have a rare large gap, and the lower end
            of the mean counts.
    """
    gap = measure_gap(logp, other.to(logp.device))
    return gap.mean if exact or gap.mean != gap.mean else max(0.0, gap.least_mean)
