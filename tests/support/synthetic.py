"""Run folders as train.py leaves them, with chosen numbers."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from asym_lightning.analysis.comparison import Comparison, lay_side_by_side
from asym_lightning.analysis.runs import read_runs

LR = "policy.optimizer.learning_rate"
VERSIONS = {"python": "3.11.7", "asym-lightning": "0.1.0", "torch": "2.13.0", "lightning": "2.6.6"}
BETAS = {
    "asymgrpo": (0.9, 0.4),
    "pos_only": (0.5, 0.0),
    "neg_only": (0.0, 0.5),
    "reinforce": (0.0, 0.0),
}
SHARES = ("solved/all", "solved/mixed", "clip/low", "clip/high", "clip/dual", "length/truncated")
KINDS = ("correct", "wrong", "no_answer", "unparseable", "timeout", "truncated", "error")
PHASES = ("sync", "generate", "verify", "learn", "log", "iteration")
QUARTERS = ("0.00", "0.25", "0.50", "0.75")
OTHERS = (
    *(f"accuracy/p_{edge}" for edge in QUARTERS),
    *(f"entropy/p_{edge}" for edge in QUARTERS),
    *("ledger/measured_positive", "ledger/measured_negative"),
    *("ledger/predicted_positive", "ledger/predicted_negative"),
    *("diversity/distinct_2", "diversity/distinct_correct", "entropy/high_share"),
    *("ledger/explained", "ledger/ratio", "ledger/step_size", "length/correct", "length/wrong"),
    *("advantage/mass_negative", "advantage/mass_positive"),
    *("engine/logprob_gap_max", "engine/logprob_gap_mean", "length/max"),
    *("logprob_gain/negative", "logprob_gain/positive"),
    *("loss/modulation", "loss/policy", "optimizer/grad_norm", "optimizer/learning_rate"),
    *("reward/std", "throughput/tokens_per_s"),
)


def config(algorithm: str, seed: int, folder: Path, iterations: int) -> dict[str, Any]:
    """A resolved config with the keys that reports read."""
    advantage: dict[str, Any] = {"_target_": "asym_lightning.algorithms.GroupStandardized"}
    if algorithm in BETAS:
        advantage = {
            "_target_": "asym_lightning.algorithms.BetaFamily",
            "beta_pos": BETAS[algorithm][0],
            "beta_neg": BETAS[algorithm][1],
        }
    return {
        "seed": seed,
        "algo": {
            "equal_scale": False,
            "advantage": advantage,
            "loss": {"_target_": "asym_lightning.algorithms.PPOClip", "clip_low": 0.2},
            "modulation": {},
            "name": algorithm,
        },
        "ckpt_path": None,
        "policy": {
            "path": None,
            "optimizer": {"learning_rate": 3e-4, "betas": [0.9, 0.95], "weight_decay": 0.0},
        },
        "task": {"_target_": "asym_lightning.tasks.countdown.PairsCountdown", "heldout_size": 256},
        "rollout": {"engine": "vllm", "group_size": 8, "temperature": 1.0},
        "trainer": {"_target_": "lightning.Trainer", "max_epochs": iterations, "devices": 1},
        "callbacks": {
            "record": {"folder": str(folder)},
            "evaluation": {"samples": 8},
            "checkpoint": {"dirpath": f"{folder}/checkpoints"},
        },
        "logger": {"csv": {"save_dir": str(folder)}},
    }


def write_run(
    folder: Path,
    algorithm: str = "grpo",
    seed: int = 1,
    *,
    iterations: int = 30,
    reward: float = 0.5,
    entropy: float = 0.2,
    unsolved: float = 0.1,
    pass_at: dict[int, float] | None = None,
    status: str = "done",
    overrides: dict[str, Any] | None = None,
    change: Callable[[dict[str, Any]], object] = lambda summary: None,
) -> Path:
    """Write the folder of one run, and return it.

    The given numbers are exact means over the last ten iterations, and those of the final
    evaluation.

    Args:
        pass_at: k -> held-out pass@k after training.
        overrides: config leaves by dotted key.
        change: edits the summary before it is written.
    """
    folder.mkdir(parents=True)
    passes = pass_at or {1: reward, 8: min(1.0, reward + 0.3)}
    rng = np.random.default_rng([seed, *algorithm.encode(), *str(overrides).encode()])
    lowest = passes[min(passes)]
    after = {f"eval/heldout/pass@{k}": value for k, value in passes.items()}
    after["eval/heldout/avg@8"] = lowest
    after["eval/heldout/maj@8"] = lowest + 0.05
    after["eval/heldout/distinct_correct"] = 1 + entropy
    before = dict.fromkeys(after, 0.25)
    ends = {
        "reward/mean": (0.25, reward),
        "entropy/policy": (0.4, entropy),
        "solved/none": (0.2, unsolved),
    }
    rows = [{"step": 0, **before}, *_train(rng, iterations, ends).to_dict("records")]
    if status == "done":
        rows.append({"step": iterations, **after})
    frame = pd.DataFrame(rows)
    frame[sorted(frame.columns)].to_csv(folder / "metrics.csv", index=False)
    settings = config(algorithm, seed, folder, iterations)
    for key, value in (overrides or {}).items():
        _set(settings, key, value)
    summary = {
        "status": status,
        "algorithm": algorithm,
        "seed": seed,
        "iterations": iterations,
        "wall_seconds": 100.0 + rng.normal(),
        "evaluation": {"before": before, "after": after if status == "done" else {}},
        "git_revision": "0123456789abcdef",
        "versions": dict(VERSIONS),
        "config": copy.deepcopy(settings),
    }
    change(summary)
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def _set(config: dict[str, Any], key: str, value: object) -> None:
    *path, last = key.split(".")
    for name in path:
        config = config.setdefault(name, {})
    config[last] = value


def _train(
    rng: np.random.Generator, iterations: int, ends: dict[str, tuple[float, float]]
) -> pd.DataFrame:
    """Every column of metrics.csv, a row per iteration.

    The columns of ``ends`` go from the first value to the second with noise, which has mean zero
    over the last ten iterations.
    """
    t = np.arange(iterations)
    noise = rng.normal(0, 0.01, (len(ends), iterations))
    noise[:, -10:] -= noise[:, -10:].mean(axis=1, keepdims=True)
    way = np.clip(t / max(1, iterations - 10), 0, 1)
    columns: dict[str, Any] = {"step": t}
    for (name, (start, end)), row in zip(ends.items(), noise, strict=True):
        columns[name] = start + (end - start) * way + row
    columns["entropy/positive"] = columns["entropy/policy"] * 0.9
    columns["entropy/negative"] = columns["entropy/policy"] * 1.2
    for edge in QUARTERS:
        columns[f"covariance/p_{edge}"] = 0.1 * float(edge) + rng.normal(0, 0.01, iterations)
    for k in (1, 2, 4, 8):
        columns[f"train/pass@{k}"] = np.clip(columns["reward/mean"] + 0.1 * np.log2(k), 0, 1)
    for kind in ("measured", "predicted"):
        columns[f"ledger/total_{kind}_positive"] = -0.001 * t
        columns[f"ledger/total_{kind}_negative"] = 0.0004 * t
    columns["length/mean"] = 6 + rng.normal(0, 0.1, iterations)
    others = [*SHARES, *OTHERS]
    others += [f"verify/{kind}" for kind in KINDS]
    others += [f"time/{phase}" for phase in PHASES]
    return pd.DataFrame(columns | {name: rng.random(iterations) for name in others})


def several(
    folder: Path, *seeds: int, algorithm: str = "grpo", shift: float = 0.0, **given: Any
) -> None:
    """Write a run per seed, each with another reward around 0.5 + ``shift``."""
    for seed in seeds:
        reward = 0.5 + shift + 0.01 * (seed % 3)
        target = folder / f"{algorithm}-{seed}-{len(list(folder.glob('*')))}"
        write_run(target, algorithm, seed, reward=reward, **given)


def compared(folder: Path, baseline: str | None = None, unfinished: bool = False) -> Comparison:
    return lay_side_by_side(*read_runs([folder], unfinished), baseline)
