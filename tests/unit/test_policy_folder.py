"""The folder of a trained policy: its own weights, and every other file of its model."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from asym_lightning.learner.embedded import byte_tokenizer
from asym_lightning.learner.policy_folder import save, trial_save
from tests.support.models import build

# transformers refuses to write such a config, and models have been published with it.
INVALID = {"do_sample": False, "temperature": 0.6, "top_p": 0.9, "eos_token_id": [256, 32]}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A model's folder as it is published."""
    folder = tmp_path / "base"
    build("qwen3").save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps(INVALID))
    (folder / "configuration_mine.py").write_text("# the model's own code\n")
    (folder / "tokenizer.model").write_bytes(b"\x00\x01")
    (folder / "pytorch_model.bin").write_bytes(b"weights in another form")
    (folder / "pytorch_model.bin.index.json").write_text("{}")
    (folder / "problems.parquet").write_bytes(b"data of the user's")
    (folder / "LICENSE").write_text("Apache-2.0")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tools.jinja").write_text("{{ tools }}")
    return folder


def loaded(base: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)


def test_every_file_but_weights_and_config_is_the_models_own(base: Path, tmp_path: Path) -> None:
    model, folder = loaded(base), tmp_path / "policy"
    model.config.use_cache = False
    state = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    save(model, state, byte_tokenizer(), folder=folder, base=base)
    for name in (
        "generation_config.json",
        "configuration_mine.py",
        "tokenizer.model",
        "LICENSE",
        "tokenizer.json",
        "tokenizer_config.json",
        "additional_chat_templates/tools.jinja",
    ):
        assert (folder / name).read_bytes() == (base / name).read_bytes(), name
    for name in ("pytorch_model.bin", "pytorch_model.bin.index.json", "problems.parquet"):
        assert not (folder / name).exists(), name
    weights = load_file(folder / "model.safetensors")
    for name, tensor in load_file(base / "model.safetensors").items():
        assert torch.equal(weights[name], tensor + 1), name
    assert json.loads((folder / "config.json").read_text())["use_cache"]
    assert model.config.use_cache is False
    assert model.generation_config.eos_token_id == [256, 32]


def test_weights_are_there_even_if_the_rest_fails(base: Path, tmp_path: Path) -> None:
    model, folder = loaded(base), tmp_path / "policy"
    (base / "generation_config.json").unlink()
    with pytest.raises(ValueError, match="temperature"):
        save(model, model.state_dict(), byte_tokenizer(), folder=folder, base=base)
    assert (folder / "model.safetensors").is_file()


def test_a_trial_save_shows_what_would_fail_and_leaves_nothing(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, places = loaded(base), tmp_path / "temporary"
    places.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(places))
    trial_save(model, byte_tokenizer(), base=base)
    assert not list(places.iterdir())
    (base / "generation_config.json").unlink()
    with pytest.raises(ValueError, match="temperature"):
        trial_save(model, byte_tokenizer(), base=base)
    assert not list(places.iterdir())
