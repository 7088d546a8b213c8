"""Two architectures from folder to policy with vLLM, and a model that vLLM cannot run."""

import json
from pathlib import Path

import pytest

import architecture_models
import architectures
from tests.support.commands import metrics, train

SETTINGS = (*architectures.OVERRIDES, "trainer.precision=32-true")


@pytest.mark.parametrize(
    "kind",
    [
        "qwen3_moe",  # experts that vLLM packs
        "gpt_neox",  # run by vLLM through transformers' own class, heads and names of its own
    ],
)
def test_an_architecture_trains_with_vllm(kind: str, tmp_path: Path) -> None:
    model = tmp_path / "model"
    architecture_models.save(kind, model)
    train(tmp_path / "run", *SETTINGS, f"policy.path={model}")
    table = metrics(tmp_path / "run")
    assert len(table) == 2 and table["engine/logprob_gap_mean"].max() < 1e-5
    assert table["optimizer/grad_norm"].min() > 0, "the second iteration has other weights"


@pytest.mark.full
def test_experts_reach_a_server(tmp_path: Path) -> None:
    model = tmp_path / "model"
    architecture_models.save("qwen3_moe", model)
    train(tmp_path / "run", *SETTINGS, f"policy.path={model}", "rollout=servers")
    assert metrics(tmp_path / "run")["engine/logprob_gap_mean"].max() < 1e-5


def test_what_vllm_cannot_run_is_one_line(tmp_path: Path) -> None:
    model = tmp_path / "model"
    architecture_models.save("mamba", model)
    output = train(tmp_path / "run", *SETTINGS, f"policy.path={model}", status=2)
    last = output.strip().splitlines()[-1]
    assert last.startswith("error: rollout: ") and "rollout=transformers" in last, output
    assert "Traceback" not in output


def test_the_table_has_a_row_for_each_model(tmp_path: Path) -> None:
    run = {"status": 0, "gaps": [1e-6, 2e-6], "said": ""}
    refused = {"status": 2, "gaps": [], "said": "error: rollout: no"}
    seen = {"kind": "a", "class": "A", "packed": True, "vllm fp32": run, "vllm bf16": refused}
    results = tmp_path / "results.jsonl"
    results.write_text(json.dumps(seen) + "\n")
    table = architectures.table(results)
    assert "| `a` | A | packed | 2.0e-06 | refused | not run | not run |" in table
    assert "- `a`, vllm bf16: error: rollout: no" in table
