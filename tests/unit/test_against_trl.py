"""The benchmark against TRL: lengths of the random model, rewards, the report of both sides.

Neither side is run here.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from against import model, prepare, report, sizes, weights, work
from tests.support import ROOT

SHAPE = sizes.Shape(vocabulary=600, hidden=64, layers=2, head_dim=32, context=256)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return model.tokenizer_for(prepare.procedural(200), SHAPE.vocabulary, learned=400)


def test_the_stop_probability_gives_the_mean_after_the_cut() -> None:
    # Lengths 1, 2, 3 with probabilities 1/2, 1/4, 1/4.
    assert model.stop_probability(1.75, 3) == pytest.approx(0.5)
    assert model.stop_probability(2, 2) == pytest.approx(0, abs=1e-6)  # never
    assert model.stop_probability(1, 9) == pytest.approx(1)


def test_lengths_of_the_random_model_are_as_asked(tokenizer: Any) -> None:
    most, mean = 64, 20
    policy = model.random_model(SHAPE, tokenizer, model.stop_probability(mean, most))
    end, generator = tokenizer.eos_token_id, torch.Generator().manual_seed(0)
    ids = torch.randint(2, SHAPE.vocabulary, (16, 8), generator=generator)
    stops = []
    with torch.no_grad():
        for _ in range(most):
            probability = policy(ids).logits[:, -1].softmax(-1)
            stops.append(probability[:, end].clone())
            # The next tokens are the model's own samples, without the end token.
            probability[:, end] = 0
            ids = torch.cat([ids, probability.multinomial(1, generator=generator)], 1)
    stop = torch.stack(stops, 1)
    still = torch.cumprod(1 - stop, 1)
    # The mean length is the sum of the probabilities of reaching each further token.
    length = 1 + still[:, :-1].sum(1)
    assert length.mean() == pytest.approx(mean, rel=0.05)
    assert stop.max() < 1.3 * stop.min()  # for any prefix
    assert torch.equal(policy.lm_head.weight, policy.model.embed_tokens.weight)


def test_the_tokenizer_reads_prompts_and_whatever_is_sampled(tokenizer: Any) -> None:
    assert len(tokenizer) == SHAPE.vocabulary
    text = "Ada has 12 apples — and θ\n"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    every = [tokenizer.decode([i]) for i in range(SHAPE.vocabulary)]
    assert all(every) and tokenizer.decode([0, 1, 599], skip_special_tokens=True) == every[599]
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 1)


def test_rewards_depend_on_prompt_and_completion_alone() -> None:
    texts = [f"completion {i}" for i in range(8000)]
    answers = [str(i // 8) for i in range(8000)]
    cut = [False] * 8000
    rewards = work.rewards_of("realistic", False)(texts, answers, cut)
    assert rewards == work.rewards_of("realistic", False)(texts, answers, [True] * 8000)
    assert set(rewards) == {0.0, 1.0} and sum(rewards) / 8000 == pytest.approx(0.5, abs=0.03)
    assert work.without_signal(rewards, 8) == pytest.approx(2 / 9, abs=0.04)
    graded = work.rewards_of("all", False)(texts, answers, cut)
    assert work.without_signal(graded, 8) == 0 and min(graded) >= 0 and max(graded) < 1
    own = work.rewards_of("realistic", True)
    assert own(["7*1=7", "7+1=8", "7*1=7"], ["7715>7"] * 3, [False, False, True]) == [1.0, 0.0, 0.0]


def test_the_task_gives_the_prompts_and_the_rewards(tokenizer: Any, tmp_path: Path) -> None:
    size = sizes.Size(SHAPE, prompts=2, max_tokens=64, mean_tokens=20, prompt_tokens=(30, 90))
    problems = prepare.problems_for(size, prepare.procedural(200), tokenizer)
    path = tmp_path / "problems.jsonl"
    rows = [{"id": p.id, "text": p.text, "answer": p.answer} for p in problems]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = work.Work(str(path), "all", False)
    lengths = {len(task.encode(problem, tokenizer)) for problem in task.train}
    assert min(lengths) >= 30 and max(lengths) <= 90 and len(lengths) > 10
    (verdict,) = task.verifier().score(["a b"], ["3"], [True])
    assert verdict.reward == work.uniform("completion", "3", "a b")


def test_weights_that_moved_are_counted(tokenizer: Any, tmp_path: Path) -> None:
    policy = model.random_model(SHAPE, tokenizer, 0.1)
    policy.save_pretrained(tmp_path)
    assert weights.moved(tmp_path, policy.named_parameters()) == 0
    with torch.no_grad():
        # Changes 64 weights, by less than bf16 resolves.
        policy.model.norm.weight += 1e-6
    count = sum(weight.numel() for weight in policy.parameters())
    # A weight below 1 may round.
    assert weights.moved(tmp_path, policy.named_parameters()) == pytest.approx(64 / count, rel=0.1)
    assert weights.moved(tmp_path, policy.bfloat16().named_parameters()) == 0


def side(step: float, learn: float, peak: float) -> dict[str, Any]:
    same = {
        "generate": 1.0,
        "tokens": 100,
        "longest": 50,
        "without_signal": 0.25,
        "learn_peak_mib": peak - 100,
    }
    steps = (99.0, step - 0.5, step, step + 2)  # the first warms up
    rows = [
        {"step": s, "learn": learn, "processor_step": 2 * s, "processor_learn": learn, **same}
        for s in steps
    ]
    return report.summarised(
        {"rows": rows, "peak_mib": peak, "ready_mib": 200.0, "threads": 2, "moved": 1.0}, warmup=1
    )


def test_ratios_are_of_medians_after_the_warm_up() -> None:
    trl, ours = side(8.0, 6.0, 900), side(2.0, 0.75, 600)
    assert ours["step"] == {"median": 2.0, "min": 1.5, "max": 4.0, "mean": 2.5}
    assert ours["rest"]["median"] == 0.25
    assert ours["tokens_per_s"] == pytest.approx(300 / 7.5)
    about = {"size": "small", "versions": {"trl": "1.16.0"}}
    ways = {
        "generate": trl,
        "vLLM repaired": side(4.0, 3.0, 1200),
        "continuous batching": "AttributeError",
    }
    record = json.loads(json.dumps(report.record(ways, {"realistic": ours, "all": trl}, about)))
    assert record["ratio"] == {"step": 4.0, "learn": 8.0, "peak_memory": 1.5}
    assert record["ratios"]["generate"]["all"]["step"] == 1
    assert record["ratios"]["vLLM repaired"]["realistic"]["peak_memory"] == 2
    assert record["trl"]["continuous batching"] == "AttributeError"
    assert len(record["trl"]["generate"]["rows"]) == 4
    numbers, quotients = report.tables(record)
    assert len(numbers.columns) == 1 + 2 + 2 and quotients.row_count == 2 * 2
    _, _, *rows = report.markdown(record).splitlines()
    repaired = "1.00 | 3.00 | 4.00 | 1200 | 4.00 / 0.50 | 2.00 / 0.50"
    assert rows[1] == f"| `small` | TRL, vLLM repaired | {repaired} |"
    assert rows[2] == "| `small` | ours, realistic | 1.00 | 0.75 | 2.00 | 600 |  |  |"


def test_a_missing_trl_is_one_line(tmp_path: Path) -> None:
    code = "\n".join(
        [
            "import importlib.metadata as m, runpy, sys",
            "def none(name): raise m.PackageNotFoundError(name)",
            "m.version = none",
            "sys.argv = ['against_trl.py', '--size', 'small', '--json', 'x.json']",
            "runpy.run_path(sys.argv[0], run_name='__main__')",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT / "benchmarks",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    message = "error: trl is not installed: pip install -e '.[bench]' in the checkout"
    assert done.stderr.strip() == message
