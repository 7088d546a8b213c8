"""Every algorithm config from YAML to object."""

from pathlib import Path
from typing import Any

import pytest
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
    PPOClip,
    SequenceSumOverConstant,
    TokenMean,
)
from asym_lightning.config.loading import build
from asym_lightning.types import ConfigError
from tests.support import ROOT

CONF = ROOT / "conf"


def composed(tmp_path: Path, *overrides: str) -> DictConfig:
    """Compose the algorithm groups alone under a primary config like conf/train.yaml."""
    (tmp_path / "primary.yaml").write_text(
        "defaults:\n  - algo: asymgrpo\n  - _self_\n"
        "rollout:\n  max_tokens: 96\n"
        f"hydra:\n  searchpath: ['file://{CONF}']\n"
    )
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        return compose("primary", overrides=list(overrides))


def built(tmp_path: Path, *overrides: str) -> Algorithm:
    algorithm = instantiate(composed(tmp_path, *overrides).algo)
    assert isinstance(algorithm, Algorithm)
    return algorithm


BONUS = (EntropyBonus(1e-3),)
STANDARDIZED = GroupStandardized(ddof=1, eps=1e-6)
CLIP_HIGHER = PPOClip(clip_high=0.28)
# Config -> advantage, loss, aggregation, modulation.
EXPECTED: dict[str, tuple[Any, ...]] = {
    "asymgrpo": (BetaFamily(0.9, 0.4), PPOClip(), TokenMean(), ()),
    "asymgrpo_clip_higher": (BetaFamily(0.9, 0.4), CLIP_HIGHER, TokenMean(), ()),
    "grpo": (STANDARDIZED, PPOClip(), TokenMean(), ()),
    "grpo_entropy": (STANDARDIZED, PPOClip(), TokenMean(), BONUS),
    "grpo_clip_higher": (STANDARDIZED, CLIP_HIGHER, TokenMean(), ()),
    "dr_grpo": (MeanCentered(), PPOClip(), SequenceSumOverConstant(max_tokens=96), ()),
    "reinforce": (BetaFamily(0, 0), PPOClip(), TokenMean(), ()),
    "pos_only": (BetaFamily(0.5, 0), PPOClip(), TokenMean(), ()),
    "neg_only": (BetaFamily(0, 0.5), PPOClip(), TokenMean(), ()),
    "ent_decrease": (BetaFamily(0.5, 0, flip="positive"), PPOClip(), TokenMean(), ()),
    "ent_increase": (BetaFamily(0, 0.5, flip="negative"), PPOClip(), TokenMean(), ()),
}


@pytest.mark.parametrize("name", list(EXPECTED))
def test_every_algorithm_config_builds_what_it_says(tmp_path: Path, name: str) -> None:
    assert built(tmp_path, f"algo={name}") == Algorithm(name, *EXPECTED[name])


def test_no_algorithm_config_is_left_out() -> None:
    assert {path.stem for path in (CONF / "algo").glob("*.yaml")} >= set(EXPECTED)


def test_overrides_of_a_user(tmp_path: Path) -> None:
    values = ("algo.loss.clip_high=0.3", "algo.modulation.entropy_bonus.coef=5e-3")
    changed = built(tmp_path, "algo=grpo_entropy", *values)
    assert changed.loss == PPOClip(clip_high=0.3) and changed.modulation == (EntropyBonus(5e-3),)
    assert built(tmp_path, "algo.advantage.beta_pos=0.75").advantage == BetaFamily(0.75, 0.4)
    modulation = "modulation@algo.modulation=entropy_bonus"
    aggregation = "aggregation@algo.aggregation=sequence_mean_token_mean"
    crossed = built(tmp_path, modulation, aggregation)
    assert crossed.advantage == BetaFamily(0.9, 0.4) and crossed.modulation == BONUS


def test_a_refused_field_has_the_key_of_its_part_whatever_its_name(tmp_path: Path) -> None:
    bonus = "{mine:{_target_:asym_lightning.algorithms.modulation.EntropyBonus,coef:-1}}"
    config = composed(tmp_path, "algo=grpo", f"+algo.modulation={bonus}")
    with pytest.raises(ConfigError, match=r"^algo\.modulation\.mine\.coef=-1: must be "):
        build(config, "algo")


def test_bad_overrides(tmp_path: Path) -> None:
    message = r"algo\.advantage\.beta_neg=-1: must be a finite number >= 0"
    with pytest.raises(ConfigError, match=message):
        build(composed(tmp_path, "algo.advantage.beta_neg=-1"), "algo")
    with pytest.raises(ConfigCompositionException):
        composed(tmp_path, "algo.advantage.beta_poss=0.75")
