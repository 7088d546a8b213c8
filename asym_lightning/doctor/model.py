"""The doctor's rehearsal of a model: engine, policy and transformers on one prompt.

It runs in `python -m asym_lightning.doctor.model FOLDER`, so that the doctor survives its crash.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from asym_lightning.doctor.machine import Finding, one_line
from asym_lightning.doctor.running import engine_advice, make_engine, probed

MARK = "rehearsal: "
PROBE = (sys.executable, "-m", "asym_lightning.doctor.model")
SECONDS = 600.0
QUESTION = "What is 2 plus 3?"


def check_model(folder: str, command: Sequence[str] = PROBE, seconds: float = SECONDS) -> Finding:
    """Rehearse a model in a process of its own, in fp32, for at most so many seconds.

    Args:
        folder: folder or hub id of the model.
    """
    # The probe has another working folder.
    place = str(Path(folder).resolve()) if Path(folder).is_dir() else folder
    try:
        result, process = probed([*command, place], MARK, seconds)
    except subprocess.TimeoutExpired:
        todo = "try a machine with more memory or cores, or a smaller model"
        return Finding("model", False, f"no answer within {seconds:g} s", todo=todo)
    if result is None:
        message = one_line(process.stderr or process.stdout)
        todo = engine_advice(process.stderr + process.stdout, process.returncode)
        return Finding("model", False, f"cannot be tried: {message}", todo=todo)
    return judged(result)


def judged(result: dict[str, Any]) -> Finding:
    """The finding on the result of :func:`probe`."""
    if "refused" in result:
        todo = "train it with rollout=transformers, or report it with the model's config.json"
        return Finding("model", False, one_line(result["refused"]), todo=todo)
    gaps = {name: result[name] for name in ("packed", "loaded", "synced")}
    shown = ", ".join(f"{name} {gap:.1e}" for name, gap in gaps.items() if gap is not None)
    seen = f"mean gaps of log-probs (nats): {shown}; {result['seconds']:.0f} s with the engine"
    return Finding("model", True, seen)


def probe(path: str) -> dict[str, Any]:
    """Start an engine for a model, and rehearse.

    Args:
        path: folder or hub id.
    """
    import torch
    from lightning import Trainer
    from transformers import AutoTokenizer

    from asym_lightning.algorithms import Algorithm, BetaFamily, PPOClip, TokenMean
    from asym_lightning.learner.optimizer import OptimizerSettings
    from asym_lightning.learner.policy import PolicyModule
    from asym_lightning.learner.rehearsal import rehearse
    from asym_lightning.rollout.base import Sampling
    from asym_lightning.runtime.pretrained import load_model
    from asym_lightning.types import Completion, ConfigError

    tokenizer: Any = AutoTokenizer.from_pretrained(path)
    text = QUESTION
    if tokenizer.chat_template:
        turns = [{"role": "user", "content": QUESTION}]
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    algorithm = Algorithm("doctor", BetaFamily(0.9, 0.4), PPOClip(), aggregation=TokenMean())
    policy = PolicyModule(
        load_model(path, torch.float32),
        algorithm,
        OptimizerSettings(1e-3),
        temperature=1.0,
        logprob_gap_limit=None,
    )
    policy.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    start = time.perf_counter()
    engine = make_engine(path)
    end = tokenizer.eos_token_id
    sampling = Sampling(n=2, max_tokens=16, temperature=1.0, stop_ids=(0 if end is None else end,))
    prompt = tokenizer(text, add_special_tokens=not tokenizer.chat_template)["input_ids"]

    def draw() -> list[Completion]:
        [samples] = engine.generate([prompt], sampling, [0])
        return [Completion(s.token_ids, s.logprobs, "", truncated=s.truncated) for s in samples]

    def sync() -> None:
        engine.sync(policy.weights(engine.takes_checkpoints), 0)

    try:
        found = rehearse(policy, prompt, draw, sync=sync, as_loaded=True)
    except ConfigError as error:
        return {"refused": str(error)}
    return {**asdict(found), "seconds": time.perf_counter() - start}


if __name__ == "__main__":
    print(MARK + json.dumps(probe(sys.argv[1])), flush=True)
