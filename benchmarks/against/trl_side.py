"""TRL's side: `python -m against.trl_side JOB.json RESULT.json` trains with GRPOTrainer and writes what each step took.

Nothing of TRL is changed but for stop-watches around its own methods; where it generates with transformers, vLLM is hidden from it, so
that its memory does not count an engine that it does not use.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from against.memory import HighWater
from against.work import rewards_of, without_signal


class StopWatch:
    """Seconds, lengths and memory of every step; a step is the time from the end of one to the end of the next."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.memory = HighWater()
        self.current: dict[str, float] = {}

    def start(self) -> None:
        self.ready, self.last = self.memory.read(), time.perf_counter()

    def learn(self) -> None:
        """From here on the step learns."""
        self.memory.reset()
        self.learning = time.perf_counter()

    def end(self) -> None:
        now = time.perf_counter()
        self.current |= {"step": now - self.last, "learn": now - self.learning, "learn_peak_mib": self.memory.read()}
        self.rows.append(self.current)
        self.current, self.last = {}, now


def trainer_of(job: dict[str, Any], watch: StopWatch, folder: str) -> Any:
    """The trainer with the job's settings."""
    options = dict(job["trl"])
    if not options.get("use_vllm"):
        import trl.import_utils

        trl.import_utils.is_vllm_available = lambda *_, **__: False
    elif not options.pop("onednn", True):
        import vllm._custom_ops

        vllm._custom_ops._supports_onednn = False
    options.pop("onednn", None)
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    class Timed(GRPOTrainer):
        def _generate(self, prompts: list[Any]) -> Any:
            start = time.perf_counter()
            made = super()._generate(prompts)
            lengths = [len(ids) for ids in made[1]]
            watch.current |= {"generate": time.perf_counter() - start, "tokens": sum(lengths), "longest": max(lengths)}
            return made

        def _generate_and_score_completions(self, inputs: list[Any]) -> Any:
            made = super()._generate_and_score_completions(inputs)
            watch.learn()
            return made

    class Steps(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            watch.start()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            watch.end()

    tokenizer = AutoTokenizer.from_pretrained(job["model"], padding_side="left")
    rewards = rewards_of(job["signal"], job["own_task"])
    end = tokenizer.eos_token_id

    def reward(prompts: list[str], completions: list[str], completion_ids: list[list[int]], answer: list[str], **_: Any) -> list[float]:
        given = rewards(completions, answer, [ids[-1] != end for ids in completion_ids])
        watch.current["without_signal"] = without_signal(given, job["group"])
        return given

    batch = options.pop("per_device_train_batch_size")
    settings: dict[str, Any] = {
        "output_dir": folder,
        "use_cpu": True,
        "bf16": job["precision"] == "bf16",
        "gradient_checkpointing": False,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": job["rollouts"] // batch,
        "num_generations": job["group"],
        "max_completion_length": job["max_tokens"],
        "temperature": 1.0,
        "num_iterations": 1,
        "beta": 0.0,
        "learning_rate": job["learning_rate"],
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1.0,
        "weight_decay": 0.0,
        "max_steps": job["warmup"] + job["steps"],
        "shuffle_dataset": False,
        "seed": job["seed"],
        "dataloader_pin_memory": False,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "vllm_importance_sampling_correction": False,
        "vllm_max_model_length": job["context"],
    }
    rows = [json.loads(line) for line in Path(job["ordered"]).read_text().splitlines()]
    return Timed(
        model=job["model"],
        reward_funcs=reward,
        args=GRPOConfig(**{**settings, **options}),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[Steps()],
    )


def main(job: dict[str, Any], result: Path) -> None:
    import torch

    watch = StopWatch()
    trainer = trainer_of(job, watch, str(result.parent / "trl"))
    trainer.train()
    watch.memory.read()
    found = {"rows": watch.rows, "peak_mib": watch.memory.peak, "ready_mib": watch.ready, "threads": torch.get_num_threads()}
    result.write_text(json.dumps({**found, "settings": trainer.args.to_dict()}, default=str))


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
