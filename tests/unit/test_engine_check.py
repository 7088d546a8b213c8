"""Wrong weights are told from rounding: both kinds, in fp32 and bf16."""

import math

import pytest
import torch

from asym_lightning.learner.engine_check import (
    FP32_BOUND,
    Gap,
    bound_of,
    check_engine,
    measure_gap,
    positions,
)
from asym_lightning.runtime.meter import Meter
from asym_lightning.types import EngineMismatchError

VOCABULARY, LENGTH = 60, 20
# A standard deviation of logits that half precision brings about, and one that fp32 does.
NOISE = {"bf16": 0.03, "fp32": 1e-6}


def sampled(tokens: int, width: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits as wide as a trained model's, and tokens sampled from them."""
    generator = torch.Generator().manual_seed(seed)
    logits = width * torch.randn(tokens, VOCABULARY, generator=generator).double()
    chosen = torch.multinomial(logits.softmax(-1), 1, generator=generator)
    return logits, chosen


def logprobs(logits: torch.Tensor, chosen: torch.Tensor, temperature: float = 1) -> torch.Tensor:
    return (logits / temperature).log_softmax(-1).gather(1, chosen)[:, 0]


def noisy(logits: torch.Tensor, scale: float, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return logits + scale * torch.randn(logits.shape, generator=generator)


def run_bound(logits: torch.Tensor, chosen: torch.Tensor, precision: str) -> float:
    """The bound as a run has it: from the trainer's own rounding, or fixed in fp32."""
    if precision == "fp32":
        return FP32_BOUND
    own = logprobs(noisy(logits, NOISE[precision], 1), chosen) - logprobs(logits, chosen)
    return bound_of(float(own.abs().mean()))


def refusal(
    trainer: torch.Tensor, engine: torch.Tensor, bound: float, updated: bool = True
) -> str | None:
    rows = torch.arange(trainer.numel()) // LENGTH
    try:
        check_engine(trainer, engine, rows, bound=bound, limit=None, updated=updated, meter=Meter())
    except EngineMismatchError as error:
        return str(error)
    return None


@pytest.mark.parametrize("precision", NOISE)
@pytest.mark.parametrize("width", [0.5, 8.0])
@pytest.mark.parametrize("tokens", [8, 10_000])
def test_an_engine_in_order_is_never_refused(precision: str, width: float, tokens: int) -> None:
    for seed in range(3):
        logits, chosen = sampled(tokens, width, seed)
        trainer = logprobs(noisy(logits, NOISE[precision], 2 + seed), chosen)
        engine = logprobs(noisy(logits, 1.5 * NOISE[precision], 100 + seed), chosen)
        assert refusal(trainer, engine, run_bound(logits, chosen, precision)) is None


def wrong_engines(logits: torch.Tensor, chosen: torch.Tensor) -> dict[str, torch.Tensor]:
    """The engine's log-probs under every known cause, without rounding."""
    drift = torch.randn(logits.shape, generator=torch.Generator().manual_seed(9)).double()
    late = torch.arange(len(logits))[:, None] % LENGTH / LENGTH
    own = logprobs(logits, chosen)
    return {
        "stale": logprobs(logits + 0.3 * drift, chosen),
        "temperature": logprobs(logits, chosen, temperature=0.7),
        "scale or cap": logprobs(8 * (logits / 8).tanh(), chosen),
        "shift": own.roll(1),
        "rope": logprobs(logits + late * drift, chosen),
        "nan": torch.full_like(own, math.nan),
        "dropout": logprobs(logits + 0.2 * drift, chosen),
    }


WORDS = {
    "stale": "stale",
    "temperature": "another temperature",
    "scale or cap": "scale or cap",
    "shift": "hardly related",
    "rope": "grows along a completion",
    "nan": "not numbers",
    "dropout": "dropout",
}


@pytest.mark.parametrize("precision", NOISE)
@pytest.mark.parametrize("cause", WORDS)
def test_every_known_cause_is_refused_and_named(precision: str, cause: str) -> None:
    logits, chosen = sampled(1000, 3.0)
    trainer = logprobs(noisy(logits, NOISE[precision], 2), chosen)
    engine = wrong_engines(noisy(logits, NOISE[precision], 3), chosen)[cause]
    # Dropout shows from the first iteration on, stale weights only after an update.
    bound, updated = run_bound(logits, chosen, precision), cause != "dropout"
    text = refusal(trainer, engine, bound, updated=updated)
    assert text is not None and WORDS[cause] in text, text


def test_before_an_update_weights_are_not_called_stale() -> None:
    logits, chosen = sampled(1000, 3.0)
    engine = wrong_engines(logits, chosen)["stale"]
    text = refusal(logprobs(logits, chosen), engine, FP32_BOUND, updated=False)
    assert text is not None and "different things" in text and "stale" not in text


def test_a_limit_on_single_tokens_names_its_key() -> None:
    logp = torch.full((100,), -1.0)
    engine = logp.clone()
    engine[3] -= 0.5
    rows = torch.zeros(100, dtype=torch.long)
    options = {"bound": 1.0, "updated": True, "meter": Meter()}
    check_engine(logp, engine, rows, limit=None, **options)  # type: ignore[arg-type]
    with pytest.raises(EngineMismatchError, match=r"policy\.logprob_gap_limit=0\.1"):
        check_engine(logp, engine, rows, limit=0.1, **options)  # type: ignore[arg-type]


def test_the_gap_by_hand() -> None:
    gap = measure_gap(torch.tensor([-1.0, -2.0]), torch.tensor([-1.5, -1.0]))
    kl = (math.exp(0.5) - 1.5 + math.exp(-1.0)) / 2
    assert gap == Gap(2, 0.75, 0.25, pytest.approx(kl), 1.0)
    assert measure_gap(torch.zeros(0), torch.zeros(0)) == Gap(0, 0.0, 0.0, 0.0, 0.0)


def test_positions_within_completions() -> None:
    assert positions(torch.tensor([4, 4, 4, 0, 0, 7])).tolist() == [0, 1, 2, 0, 1, 0]
