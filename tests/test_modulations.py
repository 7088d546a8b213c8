"""Modulations, how an Algorithm keeps them, and every algorithm config from YAML to object."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException
from hydra.utils import instantiate
from omegaconf import DictConfig

from asym_lightning.algorithms import (
    Algorithm,
    BetaFamily,
    EntropyBonus,
    GroupStandardized,
    MeanCentered,
    Modulation,
    PPOClip,
    SequenceSumOverConstant,
    TokenMean,
)
from asym_lightning.types import ConfigError
from tests.helpers import tokens

CONF = Path(__file__).parent.parent / "conf"


def algorithm(modulation: object = ()) -> Algorithm:
    return Algorithm("test", BetaFamily(0.9, 0.4), PPOClip(), TokenMean(), modulation)  # type: ignore[arg-type]


def test_the_base_class_does_nothing() -> None:
    given = tokens(logp=torch.randn(3), advantages=torch.randn(3), entropy=torch.rand(3))
    base = Modulation()
    assert base.shape_advantages(given) is given.advantages
    assert base.loss_term(given) is None and not base.needs_entropy_grad and not base.needs_batch
    assert base.state_dict() == {}


def test_entropy_bonus_value_and_gradient() -> None:
    """d(-c H)/dz_j = c p_j (log p_j + H), with H the entropy of softmax(z)."""
    logits = torch.randn(4, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    logs = logits.log_softmax(-1)
    entropy = -(logs.exp() * logs).sum(-1)
    bonus = EntropyBonus(0.25)
    term = bonus.loss_term(tokens(logp=logs[:, 0], entropy=entropy))
    torch.testing.assert_close(term, -0.25 * entropy)
    gradient = torch.autograd.grad(term.sum(), logits)[0]
    torch.testing.assert_close(gradient, (0.25 * logs.exp() * (logs + entropy[:, None])).detach())
    assert bonus.needs_entropy_grad


@pytest.mark.parametrize("coef", [-0.1, float("nan"), "much"])
def test_entropy_bonus_refuses(coef: float) -> None:
    with pytest.raises(ConfigError, match=f"algo.modulation.entropy_bonus.coef={coef}: must be a finite number >= 0"):
        EntropyBonus(coef)


def test_modulations_are_kept_in_order_whether_named_or_listed() -> None:
    first, second = EntropyBonus(0.1), Modulation()
    assert algorithm({"b": first, "a": second}).modulation == (first, second)
    assert algorithm([second, first]).modulation == (second, first)
    assert algorithm({}).modulation == algorithm().modulation == ()


def test_what_is_no_modulation_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"algo\.modulation\.coef=1: must be a modulation"):
        algorithm({"coef": 1})


def composed(tmp_path: Path, *overrides: str) -> DictConfig:
    """The algorithm groups under a primary config like conf/train.yaml, with nothing else in it."""
    (tmp_path / "primary.yaml").write_text(
        f"defaults:\n  - algo: asymgrpo\n  - _self_\nrollout:\n  max_tokens: 96\nhydra:\n  searchpath: ['file://{CONF}']\n"
    )
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        return compose("primary", overrides=list(overrides))


def built(tmp_path: Path, *overrides: str) -> Algorithm:
    made = instantiate(composed(tmp_path, *overrides).algo)
    assert isinstance(made, Algorithm)
    return made


BONUS = (EntropyBonus(1e-3),)
EXPECTED = {
    "asymgrpo": (BetaFamily(0.9, 0.4), PPOClip(), TokenMean(), ()),
    "asymgrpo_clip_higher": (BetaFamily(0.9, 0.4), PPOClip(clip_high=0.28), TokenMean(), ()),
    "grpo": (GroupStandardized(ddof=1, eps=1e-6), PPOClip(), TokenMean(), ()),
    "grpo_entropy": (GroupStandardized(ddof=1, eps=1e-6), PPOClip(), TokenMean(), BONUS),
    "grpo_clip_higher": (GroupStandardized(ddof=1, eps=1e-6), PPOClip(clip_high=0.28), TokenMean(), ()),
    "dr_grpo": (MeanCentered(), PPOClip(), SequenceSumOverConstant(max_tokens=96), ()),
    "reinforce": (BetaFamily(0, 0), PPOClip(), TokenMean(), ()),
    "pos_only": (BetaFamily(0.5, 0), PPOClip(), TokenMean(), ()),
    "neg_only": (BetaFamily(0, 0.5), PPOClip(), TokenMean(), ()),
    "ent_decrease": (BetaFamily(0.5, 0, flip="positive"), PPOClip(), TokenMean(), ()),
    "ent_increase": (BetaFamily(0, 0.5, flip="negative"), PPOClip(), TokenMean(), ()),
}


@pytest.mark.parametrize("name", list(EXPECTED))
def test_every_algorithm_config_builds_what_it_says(tmp_path: Path, name: str) -> None:
    assert built(tmp_path, f"algo={name}") == Algorithm(name, *EXPECTED[name])  # type: ignore[arg-type]


def test_no_algorithm_config_is_left_out() -> None:
    assert {path.stem for path in (CONF / "algo").glob("*.yaml")} >= set(EXPECTED)


def test_overrides_of_a_user(tmp_path: Path) -> None:
    changed = built(tmp_path, "algo=grpo_entropy", "algo.loss.clip_high=0.3", "algo.modulation.entropy_bonus.coef=5e-3")
    assert changed.loss == PPOClip(clip_high=0.3) and changed.modulation == (EntropyBonus(5e-3),)
    assert built(tmp_path, "algo.advantage.beta_pos=0.75").advantage == BetaFamily(0.75, 0.4)
    crossed = built(tmp_path, "modulation@algo.modulation=entropy_bonus", "aggregation@algo.aggregation=sequence_mean_token_mean")
    assert crossed.advantage == BetaFamily(0.9, 0.4) and crossed.modulation == BONUS


def test_bad_overrides(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"algo\.advantage\.beta_neg=-1: must be a finite number >= 0"):
        built(tmp_path, "algo.advantage.beta_neg=-1")
    with pytest.raises(ConfigCompositionException):
        composed(tmp_path, "algo.advantage.beta_poss=0.75")
