"""The chain task and the policy that comes with the package, in runs."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from asym_lightning.commands import warmstart
from asym_lightning.commands.warmstart import ChainSettings
from asym_lightning.learner.embedded import is_complete
from asym_lightning.tasks.chain import ChainCountdown
from tests.support.chain import CHAIN
from tests.support.commands import metrics, summary
from tests.support.runs import run


@pytest.fixture(scope="module")
def task() -> ChainCountdown:
    return ChainCountdown()


def test_the_shipped_policy_is_what_its_card_says(task: ChainCountdown) -> None:
    card = json.loads((CHAIN / "card.json").read_text())
    assert is_complete(CHAIN), "model.safetensors is not the file that the card was written for"
    settings = json.loads(json.dumps(vars(ChainSettings())))
    assert card["settings"] == settings | {"digest": ChainSettings().digest}
    assert card["command"].startswith("python -m asym_lightning.warmstart ")
    assert sum(path.stat().st_size for path in CHAIN.iterdir()) < 4e6
    model: Any = AutoModelForCausalLM.from_pretrained(CHAIN, dtype=torch.float32)
    assert sum(p.numel() for p in model.parameters()) == card["parameters"] == 752_576
    assert json.loads((CHAIN / "config.json").read_text())["dtype"] == "float16"
    said = card["measured"]
    assert 0.15 < said["heldout"]["pass@1"] < 0.35
    assert abs(said["train"]["pass@1"] - said["heldout"]["pass@1"]) < 0.05, "not memorised"
    found = warmstart.measure(CHAIN, AutoTokenizer.from_pretrained(CHAIN), task, task.heldout[:96])
    assert found["pass@1"] == pytest.approx(said["heldout"]["pass@1"], abs=0.1)


def test_a_warm_start_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(warmstart, "MEASURED", 8)
    monkeypatch.setattr("sys.argv", ["warmstart", str(tmp_path / "policy"), "--steps", "4"])
    warmstart.main()
    assert "heldout: pass@1 0.0" in capsys.readouterr().out and is_complete(tmp_path / "policy")
    card = json.loads((tmp_path / "policy" / "card.json").read_text())
    assert card["data"]["demonstrations"] == 512
    assert card["settings"]["digest"] == replace(ChainSettings(), steps=4).digest
    with pytest.raises(SystemExit) as stop:
        warmstart.main()
    assert stop.value.code == 2 and "is not empty" in capsys.readouterr().err


def test_it_trains_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choices = ("task=chain", "policy=chain", "trainer.max_epochs=2", "rollout.group_size=8")
    folder = run(monkeypatch, tmp_path, *choices)
    got = summary(folder)
    assert got["status"] == "done"
    assert got["config"]["policy"]["path"] == str(CHAIN)
    assert got["logprob_gap_max"] < 1e-4
    table = metrics(folder)
    assert (table["reward/mean"] > 0.05).all() and (table["optimizer/grad_norm"] > 0).all()
    exported: Any = AutoModelForCausalLM.from_pretrained(folder / "policy")
    assert exported.dtype == torch.float32, "the weights that learn are kept in fp32"
