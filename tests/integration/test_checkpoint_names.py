"""Weights go to the engine as the files of a checkpoint hold them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import architecture_models
from asym_lightning.learner.checkpoint_names import as_in_checkpoint
from asym_lightning.runtime.pretrained import layer_of
from tests.support.models import build


def held(model: Any) -> dict[str, torch.Tensor]:
    state = dict(model.state_dict())
    if model.config.get_text_config().tie_word_embeddings:
        state.pop("lm_head.weight")
    return dict(as_in_checkpoint(model, state.items()))


@pytest.mark.parametrize("kind", ["qwen3_moe", "mixtral", "granitemoe"])
@pytest.mark.parametrize("loaded", [False, True])
def test_stacked_experts_come_as_in_the_files(kind: str, loaded: bool, tmp_path: Path) -> None:
    model = architecture_models.build(kind)
    model.save_pretrained(tmp_path)
    if loaded:
        model = AutoModelForCausalLM.from_pretrained(tmp_path)
    files = load_file(tmp_path / "model.safetensors")
    given = held(model)
    assert given.keys() == files.keys()
    assert all(torch.equal(given[name], files[name]) for name in files)


def test_a_dense_model_passes_as_it_is() -> None:
    model = build("llama")
    given = held(model)
    assert all(given[name] is tensor for name, tensor in given.items())
    assert given.keys() == model.state_dict().keys()


def test_the_layer_of_a_name() -> None:
    assert layer_of("model.layers.3.mlp.experts.5.up_proj.weight") == "model.layers.3"
    assert layer_of("transformer.h.11.attn.c_attn.bias") == "transformer.h.11"
    assert layer_of("model.embed_tokens.weight") == ""
