"""Data that preflight has prepared are those of the run: every prompt is tokenised once."""

from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from asym_lightning.config.loading import forget_handed_on, hand_on, load_tokenizer, prepare_data
from asym_lightning.tasks.countdown import PairsCountdown
from tests.support.configs import composed
from tests.support.runs import random_policy, run


def test_a_run_takes_what_was_handed_on_once_and_only_for_its_settings() -> None:
    config, other = composed("task.train_size=16"), composed("task.train_size=32")
    tokenizer = load_tokenizer(config)
    first = prepare_data(config, tokenizer, 4096)
    hand_on(config, first)
    assert prepare_data(other, tokenizer, 4096) is not first
    assert prepare_data(config, tokenizer, 4096) is first
    assert prepare_data(config, tokenizer, 4096) is not first
    hand_on(config, first)
    forget_handed_on()
    assert prepare_data(config, tokenizer, 4096) is not first


def test_a_setting_that_follows_another_key_is_compared_by_its_value() -> None:
    config, other = composed("task.seed=${seed}", "seed=1"), composed("task.seed=${seed}", "seed=2")
    tokenizer = load_tokenizer(config)
    first = prepare_data(config, tokenizer, 4096)
    hand_on(config, first)
    assert prepare_data(other, tokenizer, 4096) is not first
    forget_handed_on()


def test_each_prompt_of_a_run_is_tokenised_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    encode = PairsCountdown.encode

    def counted(self: Any, problem: Any, tokenizer: PreTrainedTokenizerFast) -> Any:
        encoded.append(problem.id)
        return encode(self, problem, tokenizer)

    monkeypatch.setattr(PairsCountdown, "encode", counted)
    policy = random_policy(tmp_path / "policy")
    sizes = ("task.train_size=64", "task.heldout_size=8", "trainer.max_epochs=2")
    run(monkeypatch, tmp_path, f"policy.path={policy}", *sizes)
    assert len(encoded) == len(set(encoded)) == 64 + 8
