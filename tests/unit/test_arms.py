"""How compare.py groups runs into arms, and the inequalities between arms that it lists."""

import shutil
from pathlib import Path
from typing import Any

from asym_lightning.analysis.arms import group
from asym_lightning.analysis.runs import read_runs
from asym_lightning.analysis.unequal import inequalities
from tests.support.synthetic import LR, compared, several, write_run

# ---- arms ----


def test_a_swept_key_makes_arms_with_readable_names(tmp_path: Path) -> None:
    for rate in (1e-4, 3e-4):
        several(tmp_path, 1, 2, overrides={LR: rate})
        several(tmp_path, 1, 2, algorithm="asymgrpo", overrides={LR: rate})
    found = compared(tmp_path)
    assert [arm.label for arm in found.arms] == [
        "grpo, learning_rate 1e-4",
        "grpo, learning_rate 3e-4",
        "asymgrpo, learning_rate 1e-4",
        "asymgrpo, learning_rate 3e-4",
    ]
    opponents = {label: arm.label if arm else None for label, arm in found.opponents.items()}
    # Each arm has the opponent of the same rate.
    assert opponents["asymgrpo, learning_rate 3e-4"] == "grpo, learning_rate 3e-4"
    assert opponents["grpo, learning_rate 3e-4"] == "grpo, learning_rate 3e-4"
    assert found.unequal == []


def test_an_exchanged_part_speaks_for_its_keys(tmp_path: Path) -> None:
    several(tmp_path, 1)
    loss = {"_target_": "asym_lightning.algorithms.CISPO", "cap": 5.0}
    bonus = {"_target_": "asym_lightning.algorithms.EntropyBonus", "coefficient": 0.01}
    several(tmp_path, 1, overrides={"algo.loss": loss})
    several(tmp_path, 1, overrides={"algo.modulation.bonus": bonus})
    labels = {arm.label for arm in compared(tmp_path).arms}
    assert labels == {
        "grpo, loss PPOClip, no bonus",
        "grpo, loss CISPO, no bonus",
        "grpo, loss PPOClip, bonus EntropyBonus",
    }


def test_the_exponents_make_a_grid_and_the_method_explains_the_rest(tmp_path: Path) -> None:
    several(tmp_path, 1, 2)
    for positive in (0.5, 0.9):
        several(
            tmp_path, 1, 2, algorithm="asymgrpo", overrides={"algo.advantage.beta_pos": positive}
        )
    found = compared(tmp_path)
    assert [arm.label for arm in found.arms] == [
        "grpo",
        "asymgrpo, beta_pos 0.5",
        "asymgrpo, beta_pos 0.9",
    ]
    # grpo has no exponents: they belong to the method.
    assert found.unequal == []


def test_folders_loggers_and_length_make_no_arms(tmp_path: Path) -> None:
    several(tmp_path, 1)
    overrides = {
        "logger.csv.flush": 5,
        "callbacks.record.every": 3,
        "callbacks.evaluation.before": False,
    }
    several(tmp_path, 2, iterations=20, overrides=overrides)
    found = compared(tmp_path)
    assert [arm.label for arm in found.arms] == ["grpo"] and found.cut == 20
    assert {u.what for u in found.unequal} == {
        "trainer.max_epochs",
        "callbacks.record.every",
        "callbacks.evaluation.before",
        "iterations done",
    }


def test_a_second_run_of_a_seed_and_a_copy_are_no_further_seeds(tmp_path: Path) -> None:
    several(tmp_path, 1, 2)
    write_run(tmp_path / "z-again", "grpo", 2, reward=0.6)
    shutil.copytree(tmp_path / "grpo-1-0", tmp_path / "z-copy")
    text = (tmp_path / "z-copy" / "summary.json").read_text().replace('"seed": 1', '"seed": 3')
    (tmp_path / "z-copy" / "summary.json").write_text(text)
    found = compared(tmp_path)
    assert list(found.arms[0].runs) == [1, 2]
    reasons = {out.folder.name: out.reason for out in found.left_out}
    assert "the same arm and seed as" in reasons["z-again"]
    assert "number for number the run of seed 1" in reasons["z-copy"]


def test_missing_seeds_are_named(tmp_path: Path) -> None:
    several(tmp_path, 1, 2, 3)
    several(tmp_path, 2, 4, algorithm="asymgrpo")
    assert compared(tmp_path).missing == {"grpo": [4], "asymgrpo": [1, 3]}


# ---- what is not equal ----


def test_what_differs_between_methods_is_listed(tmp_path: Path) -> None:
    def other_versions(summary: dict[str, Any]) -> None:
        summary["versions"]["torch"] = "2.14.0"
        summary["git_revision"] = "fedcba9876543210"
        summary["evaluation"]["before"]["eval/heldout/pass@1"] = 0.31

    several(tmp_path, 1, 2)
    changed = {
        "policy.path": "another",
        "policy.optimizer.weight_decay": 0.1,
        "rollout.group_size": 16,
    }
    several(tmp_path, 1, 2, algorithm="asymgrpo", overrides=changed, change=other_versions)
    found = {u.what: u.values for u in compared(tmp_path).unequal}
    assert found["policy.path"] == {"null": "grpo", "another": "asymgrpo"}
    assert found["policy.optimizer.weight_decay"] == {"0": "grpo", "0.1": "asymgrpo"}
    assert found["version of torch"] == {"2.13.0": "grpo", "2.14.0": "asymgrpo"}
    assert found["git revision"] == {"0123456789ab": "grpo", "fedcba987654": "asymgrpo"}
    assert found["eval/heldout/pass@1 before training"] == {"0.25": "grpo", "0.31": "asymgrpo"}
    assert set(found) == {
        *changed,
        "version of torch",
        "git revision",
        "eval/heldout/pass@1 before training",
    }


def test_what_any_method_can_be_given_is_listed_where_methods_differ_in_it(tmp_path: Path) -> None:
    rules = {"_target_": "asym_lightning.algorithms.RolloutRules", "dynamic_sampling": 0}
    several(tmp_path, 1, overrides={"algo.rules": rules})
    given = {
        "algo.equal_scale": True,
        "algo.rules": {**rules, "dynamic_sampling": 10},
        "algo.advantage.beta_pos": 0.7,
    }
    several(tmp_path, 1, algorithm="asymgrpo", overrides=given)
    found = {u.what: u.values for u in compared(tmp_path).unequal}
    assert found == {  # beta_pos is the method's own
        "algo.equal_scale": {"false": "grpo", "true": "asymgrpo"},
        "algo.rules.dynamic_sampling": {"0": "grpo", "10": "asymgrpo"},
    }


def test_a_scale_that_only_one_method_was_swept_over_is_listed(tmp_path: Path) -> None:
    several(tmp_path, 1)
    for equal in (False, True):
        several(tmp_path, 1, algorithm="asymgrpo", overrides={"algo.equal_scale": equal})
    found = compared(tmp_path)
    assert {u.what: u.values for u in found.unequal} == {
        "values tried of algo.equal_scale": {"false": "grpo", "false, true": "asymgrpo"}
    }
    assert found.methods["asymgrpo"]["equal_scale"] == "false / true"
    assert found.opponents["asymgrpo, equal_scale true"] is found.baselines[0]


def test_a_run_that_differs_within_its_arm_is_named_by_seed(tmp_path: Path) -> None:
    several(tmp_path, 1, 2)
    several(tmp_path, 3, change=lambda summary: summary.update(git_revision=None))
    (found,) = compared(tmp_path).unequal
    assert found.values == {"0123456789ab": "grpo (seed 1, 2)", "unknown": "grpo (seed 3)"}


def test_a_sweep_that_one_method_did_not_get_is_listed(tmp_path: Path) -> None:
    for rate in (1e-4, 3e-4):
        several(tmp_path, 1, overrides={LR: rate})
    several(tmp_path, 1, algorithm="asymgrpo", overrides={LR: 1e-3})
    found = compared(tmp_path)
    assert {u.what: u.values for u in found.unequal} == {
        f"values tried of {LR}": {"1e-3": "asymgrpo", "1e-4, 3e-4": "grpo"}
    }
    assert found.opponents["asymgrpo, learning_rate 1e-3"] is None
    assert any("no run of the same setting" in note for note in found.notes)
    runs, _ = group(read_runs([tmp_path])[0])
    assert inequalities(runs) and len(runs) == 3
