"""TRL's side: `python -m against.trl_side JOB.json RESULT.json`.

It trains with GRPOTrainer and writes the time of each step. Nothing of TRL is changed but for
stop-watches around its own methods. If it generates with transformers, vLLM is hidden from it, so
that its memory does not count an engine that it does not use.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from against.memory import HighWater
from against.weights import moved
from against.work import rewards_of, without_signal


class StopWatch:
    """Seconds, lengths and memory of every step.

    A step is the time from the end of one step to the end of the next. It may generate in several
    parts, each followed by learning from it.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.memory = HighWater()
        self.generated, self.lengths, self.rewards = 0.0, [], []
        self.learned, self.worked, self.learn_peak, self.learning = 0.0, 0.0, 0.0, None

    def start(self) -> None:
        self.ready, self.last, self.busy = (
            self.memory.read(),
            time.perf_counter(),
            time.process_time(),
        )

    def learn(self) -> None:
        """From here on the step learns."""
        self.memory.reset()
        self.learning = time.perf_counter(), time.process_time()

    def pause(self) -> None:
        """It does not, until ``learn`` is called again."""
        if self.learning is not None:
            self.learned += time.perf_counter() - self.learning[0]
            self.worked += time.process_time() - self.learning[1]
            self.learn_peak = max(self.learn_peak, self.memory.read())
            self.learning = None

    def end(self, group: int) -> None:
        """The step is over."""
        self.pause()
        now, busy = time.perf_counter(), time.process_time()
        self.rows.append(
            {
                "step": now - self.last,
                "generate": self.generated,
                "learn": self.learned,
                "processor_step": busy - self.busy,
                "processor_learn": self.worked,
                "tokens": sum(self.lengths),
                "longest": max(self.lengths),
                "without_signal": without_signal(self.rewards, group),
                "learn_peak_mib": self.learn_peak,
            }
        )
        self.last, self.busy = now, busy
        self.generated, self.lengths, self.rewards = 0.0, [], []
        self.learned, self.worked, self.learn_peak = 0.0, 0.0, 0.0


def choose_engine(use_vllm: bool, onednn: bool) -> None:
    """Hide vLLM from TRL, or take the oneDNN path out of vLLM.

    TRL's way of loading new weights fails on oneDNN's prepacked weights. Call this before importing
    TRL.
    """
    if not use_vllm:
        import trl.import_utils as known

        known.is_vllm_available = lambda *_, **__: False
        return
    # As on our side.
    os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    if not onednn:
        import vllm._custom_ops

        vllm._custom_ops._supports_onednn = False


def settings_of(job: dict[str, Any], folder: str) -> dict[str, Any]:
    """Arguments of ``GRPOConfig``."""
    chosen = {key: value for key, value in job["trl"].items() if key != "onednn"}
    batch = chosen["per_device_train_batch_size"]
    return {
        "output_dir": folder,
        "use_cpu": True,
        "bf16": job["precision"] == "bf16",
        "gradient_checkpointing": False,
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
        "vllm_importance_sampling_correction": False,  # would score every rollout once more
        "vllm_max_model_length": job["context"],
        **chosen,
    }


def trainer_of(job: dict[str, Any], watch: StopWatch, folder: str) -> Any:
    """The trainer with the job's settings and the stop-watch around its methods."""
    choose_engine(job["trl"].get("use_vllm", False), job["trl"].get("onednn", True))
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    class Timed(GRPOTrainer):
        def _generate(self, prompts: list[Any]) -> Any:
            start = time.perf_counter()
            made = super()._generate(prompts)
            watch.generated += time.perf_counter() - start
            watch.lengths += [len(ids) for ids in made[1]]
            return made

        def _generate_and_score_completions(self, inputs: list[Any]) -> Any:
            watch.pause()
            made = super()._generate_and_score_completions(inputs)
            watch.learn()
            return made

    class Steps(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            watch.start()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            watch.end(job["group"])

    tokenizer = AutoTokenizer.from_pretrained(job["model"], padding_side="left")
    rewards = rewards_of(job["signal"], job["own_task"])

    def reward(
        completions: list[str], completion_ids: list[list[int]], answer: list[str], **_: Any
    ) -> list[float]:
        given = rewards(
            completions, answer, [ids[-1] != tokenizer.eos_token_id for ids in completion_ids]
        )
        watch.rewards += given
        return given

    return Timed(
        model=job["model"],
        reward_funcs=reward,
        args=GRPOConfig(**settings_of(job, folder)),
        train_dataset=Dataset.from_list(
            [json.loads(line) for line in Path(job["ordered"]).read_text().splitlines()]
        ),
        processing_class=tokenizer,
        callbacks=[Steps()],
    )


def main(job: dict[str, Any], result: Path) -> None:
    import torch

    watch = StopWatch()
    trainer = trainer_of(job, watch, str(result.parent / "trl"))
    trainer.train()
    watch.memory.read()
    found = {
        "rows": watch.rows,
        "peak_mib": watch.memory.peak,
        "ready_mib": watch.ready,
        "threads": torch.get_num_threads(),
    }
    found["moved"] = moved(job["model"], trainer.model.named_parameters())
    result.write_text(json.dumps({**found, "settings": trainer.args.to_dict()}, default=str))


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
