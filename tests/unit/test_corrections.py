"""Engine-trainer corrections by hand, and the properties that their bounds guarantee."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asym_lightning.algorithms import Algorithm, Correction, LossInputs, PPOClip
from asym_lightning.algorithms.corrections import Mask, NoCorrection, Truncate, importance
from asym_lightning.algorithms.surrogates import Ratio, Reinforce
from asym_lightning.config.preflight import check_algorithm
from asym_lightning.types import ConfigError
from tests.support.configs import composed
from tests.support.parts import algorithm

# pi / mu by token, and its product over the rollout. Rollout 0 has three tokens, rollout 2 two.
RATIOS = torch.tensor([2.0, 0.25, 4.0, 8.0, 1.0], dtype=torch.float64)
ROWS = torch.tensor([0, 0, 0, 2, 2])
PRODUCTS = [2.0, 2.0, 2.0, 8.0, 8.0]
ENGINE = torch.full_like(RATIOS, -1.5)
TRAINER = ENGINE + RATIOS.log()

HAND: dict[str, tuple[Correction, list[float], dict[str, list[float]]]] = {
    "none": (NoCorrection(), [1, 1, 1, 1, 1], {}),
    "tis": (Truncate(2.0), [2, 0.25, 2, 2, 1], {"correction/truncated": [0, 0, 1, 1, 0]}),
    "icepop": (Mask(0.5, 5.0), [2, 0, 4, 0, 1], {"correction/dropped": [0, 1, 0, 1, 0]}),
    "sequence_tis": (
        Truncate(3.0, "sequence"),
        [2, 2, 2, 3, 3],
        {"correction/truncated": [0, 0, 0, 1, 1]},
    ),
    "mis": (Mask(0.0, 3.0, "sequence"), [2, 2, 2, 0, 0], {"correction/dropped": [0, 0, 0, 1, 1]}),
}


@pytest.mark.parametrize("name", HAND)
def test_by_hand_and_as_the_config_file_says(name: str) -> None:
    correction, weights, diagnostics = HAND[name]
    found = correction(TRAINER, ENGINE, ROWS)
    assert found.per_token.tolist() == pytest.approx(weights)
    if name != "none":
        before = PRODUCTS if name in ("sequence_tis", "mis") else RATIOS.tolist()
        diagnostics = diagnostics | {"correction/weight": before, "correction/weight_used": weights}
    values = {key: value.tolist() for key, value in found.diagnostics.items()}
    assert values == {key: pytest.approx(value) for key, value in diagnostics.items()}
    assert algorithm_of(f"correction={name}").correction == correction


def algorithm_of(*overrides: str) -> Algorithm:
    from hydra.utils import instantiate

    return instantiate(composed(*overrides).algo)


@pytest.mark.parametrize("algo", ["asymgrpo", "dapo", "kl_cov"])
def test_any_method_takes_any_correction(algo: str) -> None:
    for name, (correction, _, _) in HAND.items():
        assert algorithm_of(f"algo={algo}", f"correction={name}").correction == correction
    assert algorithm_of(f"algo={algo}").correction == NoCorrection()
    capped = algorithm_of(f"algo={algo}", "correction=tis", "algo.correction.cap=4")
    assert capped.correction == Truncate(4)


ALL: list[Correction] = [correction for correction, _, _ in HAND.values()]
logprobs = st.floats(-40.0, 0.0)
tokens = st.lists(st.tuples(logprobs, logprobs, st.integers(0, 3)), min_size=1, max_size=12)


@given(tokens)
def test_weights_are_one_where_engine_and_trainer_agree(
    drawn: list[tuple[float, float, int]],
) -> None:
    logp, rows = torch.tensor([d[0] for d in drawn]), torch.tensor([d[2] for d in drawn])
    for correction in ALL:
        found = correction(logp, logp.clone(), rows)
        assert found.per_token.eq(1).all()
        for key, value in found.diagnostics.items():
            if key.endswith(("truncated", "dropped")):
                assert value.eq(0).all()


@given(tokens)
def test_bounds_hold_and_rollouts_do_not_meet(drawn: list[tuple[float, float, int]]) -> None:
    logp, engine = (torch.tensor([d[i] for d in drawn], dtype=torch.float64) for i in (0, 1))
    rows = torch.tensor([d[2] for d in drawn])
    for correction in ALL:
        weights = correction(logp, engine, rows).per_token
        assert weights.isfinite().all() and (weights >= 0).all()
        if isinstance(correction, Truncate):
            assert (weights <= correction.cap).all() and (weights > 0).all()
        if isinstance(correction, Mask):
            kept = weights > 0
            assert (weights[kept] >= correction.low).all()
            assert (weights[kept] <= correction.high).all()
        # The same weights as if the rollout were alone in its micro-batch.
        for row in rows.unique().tolist():
            own = rows == row
            alone = correction(logp[own], engine[own], rows[own])
            torch.testing.assert_close(weights[own], alone.per_token)
            if getattr(correction, "level", "") == "sequence":
                assert len(weights[own].unique()) == 1


@given(st.lists(st.floats(-3.0, 3.0), min_size=3, max_size=6), st.integers(0, 100))
def test_the_full_weight_gives_the_trainers_gradient(logits: list[float], seed: int) -> None:
    """The sum of -A w grad log pi, weighted by engine probability, is the policy gradient of pi."""
    generator = torch.Generator().manual_seed(seed)
    engine = torch.randn(len(logits), generator=generator, dtype=torch.float64).log_softmax(0)
    advantages = torch.randn(len(logits), generator=generator, dtype=torch.float64)
    parameters = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    logp = parameters.log_softmax(0)
    method = algorithm(loss=Reinforce(), correction=Truncate(1e9))
    inputs = LossInputs(logp, logp.detach(), advantages, rows=torch.arange(len(logits)))
    loss = method.policy_loss(inputs, engine)
    total = (engine.exp() * loss.per_token).sum()
    got = torch.autograd.grad(total, parameters, retain_graph=True)[0]
    want = torch.autograd.grad(-(logp.exp() * advantages).sum(), parameters)[0]
    torch.testing.assert_close(got, want)


def test_no_tokens_and_no_overflow() -> None:
    empty = torch.zeros(0)
    for correction in ALL:
        found = correction(empty, empty, torch.zeros(0, dtype=torch.long))
        assert found.per_token.shape == (0,)
        assert all(value.shape == (0,) for value in found.diagnostics.values())
    far = importance(torch.tensor([0.0, -900.0]), torch.tensor([-900.0, 0.0]), torch.tensor([0, 1]))
    assert far.tolist() == pytest.approx([math.exp(20), math.exp(-20)])


def test_the_policy_loss_is_multiplied_by_the_weight_of_the_old_policy() -> None:
    old, rows = torch.tensor([-1.0, -1.0]), torch.tensor([0, 1])
    engine = torch.tensor([-1.0, -1.0 - math.log(3)])
    logp = (old + torch.tensor([1.1, 0.9]).log()).requires_grad_()
    inputs = LossInputs(logp, old, torch.tensor([2.0, -1.0]), rows=rows)
    plain = algorithm(loss=PPOClip()).policy_loss(inputs, engine)
    assert plain.per_token.tolist() == pytest.approx([-2.2, 0.9])
    cut = algorithm(loss=PPOClip(), correction=Truncate(2.0)).policy_loss(inputs, engine)
    # Weights 1 and 3, the second truncated to 2.
    assert cut.per_token.tolist() == pytest.approx([-2.2, 1.8])
    assert torch.autograd.grad(cut.per_token.sum(), logp)[0].tolist() == pytest.approx([-2.2, 1.8])
    assert set(plain.diagnostics) < set(cut.diagnostics)


def test_with_the_engines_log_probs_a_ratio_holds_the_weight_already() -> None:
    """Ratios 1.1 and 8 of logp to engine: the mask drops the second, and weighs no token twice."""
    engine, rows = torch.tensor([-2.0, -3.0]), torch.tensor([0, 1])
    advantages = torch.tensor([2.0, 1.0])
    inputs = LossInputs(engine + torch.tensor([1.1, 8.0]).log(), engine, advantages, rows=rows)
    with_mask = algorithm(loss=Ratio(), correction=Mask(0.5, 5.0))
    masked = with_mask.policy_loss(inputs, engine, old_is_engine=True)
    assert masked.per_token.tolist() == pytest.approx([-2.2, 0.0])
    with_weight = algorithm(loss=Reinforce(), correction=Truncate(2.0))
    weighed = with_weight.policy_loss(inputs, engine, old_is_engine=True)
    # A loss without a ratio is multiplied by the weight alone.
    want = [-2.0 * 1.1 * float(inputs.logp[0]), -1.0 * 2.0 * float(inputs.logp[1])]
    assert weighed.per_token.tolist() == pytest.approx(want)


@pytest.mark.parametrize(
    ("key", "make"),
    [
        ("cap=0.5", lambda: Truncate(0.5)),
        ("level=group", lambda: Truncate(2.0, "group")),
        ("low=1.5", lambda: Mask(1.5, 5.0)),
        ("high=0.9", lambda: Mask(0.5, 0.9)),
        ("high=nan", lambda: Mask(0.5, math.nan)),
    ],
)
def test_bad_parameters_name_the_key(key: str, make: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value).startswith(f"{key}: must be ") and "\n" not in str(caught.value)


def test_what_makes_sense_with_the_engines_log_probs_is_taken() -> None:
    engine = "policy.old_logprobs=engine"
    for overrides in (
        (),
        ("correction=icepop",),
        ("correction=mis", "algo=gspo"),
        ("loss@algo.loss=reinforce", "correction=tis"),
    ):
        check_algorithm(composed(engine, *overrides))
    for name in ("tis", "sequence_tis"):
        with pytest.raises(ConfigError, match="weigh by it twice"):
            check_algorithm(composed(engine, f"correction={name}"))
