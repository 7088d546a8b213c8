"""An evaluation, from config to results: `python evaluate.py`."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning.fabric import Fabric
from omegaconf import DictConfig, OmegaConf

from asym_lightning.commands.evaluate.checkpoints import (
    base_of,
    check_checkpoint,
    exported,
    names_checkpoint,
    weights_stamp,
    with_path,
)
from asym_lightning.commands.evaluate.report import benchmark_result, show
from asym_lightning.commands.evaluate.store import Store, check_same, remember
from asym_lightning.config.division import check_shared_engine
from asym_lightning.config.keys import (
    DataKeys,
    EngineKeys,
    EvaluationKeys,
    PolicyKeys,
    check_keys,
)
from asym_lightning.config.loading import build_benchmarks
from asym_lightning.config.model import context_length, load_tokenizer, stop_ids
from asym_lightning.config.parts import handed_on
from asym_lightning.rollout import groups
from asym_lightning.rollout.base import Sampling
from asym_lightning.rollout.protocol import answer, check_sampling, samples_of
from asym_lightning.runtime.run_folder import git_revision, versions, without_hydra
from asym_lightning.runtime.watch.parent import children_end_with_parent
from asym_lightning.tasks.base import PromptSet
from asym_lightning.tasks.prepare import drop_long, evaluation_sets
from asym_lightning.types import ConfigError, Kind

log = logging.getLogger(__name__)


def check_all(configs: Sequence[DictConfig]) -> None:
    """Refuse configs that cannot work, before the weights of a model are loaded.

    Raises:
        ConfigError: one line that names the key, its value, and what would be right.
    """
    handed_on.forget()
    for config in configs:
        _check_values(config)
        if names_checkpoint(config):
            checkpoint = Path(config.policy.path)
            check_checkpoint(checkpoint)
            config = with_path(config, base_of(checkpoint))
        check_shared_engine(config, config.devices)
        sets = _built(config, handed_on.build)[1][0]
        for prompt_set in sets:
            # No worker starts here. A verifier that needs a jail raises if this machine lacks one.
            prompt_set.task.verifier().close()
        check_same(Path(config.hydra.run.dir) / "settings.json", _settings(config, sets))


def _check_values(config: DictConfig) -> None:
    """Check each value by itself. Raises ConfigError for the first invalid one."""
    check_keys(
        config,
        {"rollout": EngineKeys, "policy": PolicyKeys, "data": DataKeys, "": EvaluationKeys},
    )
    if not config.benchmarks:
        raise ConfigError("benchmarks is empty: name some, such as benchmarks=[math500,aime24]")
    check_sampling(config.samples, config.temperature, map(str, config.benchmarks))


def evaluate(config: DictConfig) -> float:
    """Evaluate the policy on every benchmark; return avg@n of the first benchmark."""
    from hydra.core.hydra_config import HydraConfig

    from asym_lightning.commands.quiet import quiet

    quiet()
    folder = Path(HydraConfig.get().runtime.output_dir)
    if names_checkpoint(config):
        config = with_path(config, exported(Path(config.policy.path), folder / "policy"))
    try:
        return Evaluation(config, folder).run()
    except KeyboardInterrupt:
        log.info(f"interrupted; the same command with hydra.run.dir={folder} goes on from here")
        raise


class Evaluation:
    """An evaluation: its policy, benchmarks, ranks and results.

    Args:
        config: the composed config; ``policy.path`` is a transformers folder or a hub id.
        folder: the folder of completions and results.
    """

    def __init__(self, config: DictConfig, folder: Path):
        self.config, self.folder = config, folder
        self.tokenizer, (self.sets, self.notes, longest) = _built(config, handed_on.take)
        self.context = longest + config.rollout.max_tokens
        self.fabric = Fabric(accelerator=config.accelerator, devices=config.devices)

    def run(self) -> float:
        """Sample completions of the pending problems, write and show the results.

        Returns:
            avg@n of the first benchmark; 0 in ranks other than 0.
        """
        with children_end_with_parent():
            self.fabric.launch()
        if self.fabric.is_global_zero:
            remember(self.folder / "settings.json", _settings(self.config, self.sets))
        for note in self.notes:
            log.info(note)
        engine: Any = None
        results: dict[str, Any] = {}
        for prompt_set in self.sets:
            store = Store(self.folder, prompt_set.name)
            pending = store.pending(len(prompt_set.prompts))
            # All ranks must have read before a rank writes.
            self.fabric.barrier()
            if pending:
                engine = engine or self._engine()
                self._answer(prompt_set, store, engine, pending=pending)
            self.fabric.barrier()
            if self.fabric.is_global_zero:
                rows = store.finish()
                _log_failures(prompt_set.name, rows)
                scores = {"temperature": self.config.temperature, **benchmark_result(rows)}
                results[prompt_set.name] = scores
                self._write(results)
        if engine is not None:
            engine.close()
        if not self.fabric.is_global_zero:
            return 0.0
        shutil.rmtree(self.folder / "parts", ignore_errors=True)
        policy = self.config.policy.get("name") or self.config.policy.path
        show(results, f"{policy}, temperature {self.config.temperature:g}")
        print(f"results: {self.folder / 'results.json'}", flush=True)
        print(f"completions: {self.folder}/BENCHMARK.parquet", flush=True)
        first = next(iter(results.values()))
        return float(first["metrics"][f"avg@{first['samples']}"]["mean"])

    def _engine(self) -> Any:
        from asym_lightning.config.engines import build_engine

        dtype = self.config.rollout.dtype
        if dtype == "auto":
            from transformers import AutoConfig

            stored = AutoConfig.from_pretrained(
                self.config.policy.path, trust_remote_code=self.config.policy.trust_remote_code
            ).dtype
            dtype = str(stored or "float32").removeprefix("torch.")
        r = self.config.rollout
        return build_engine(
            r.engine,
            str(self.config.policy.path),
            self.config,
            max_model_len=self.context,
            distributed=self.fabric.world_size > 1,
            dtype=dtype,
        )

    def _answer(
        self, prompt_set: PromptSet, store: Store, engine: Any, *, pending: list[int]
    ) -> None:
        """Sample and verify completions of this rank's shard of the pending problems.

        Each part is written to disk when it is finished. Every rank has as many parts as rank 0,
        some of them empty.
        """
        sampling = Sampling(
            n=samples_of(self.config.samples, prompt_set.name),
            max_tokens=self.config.rollout.max_tokens,
            temperature=self.config.temperature,
            stop_ids=stop_ids(self.config, self.tokenizer),
        )
        verifier = prompt_set.task.verifier()
        size = self.config.problems_per_part
        numbers = pending[self.fabric.global_rank :: self.fabric.world_size]
        for start in range(0, len(pending[:: self.fabric.world_size]), size):
            part = numbers[start : start + size]
            answered = answer(
                engine,
                self.tokenizer,
                prompt_set,
                numbers=part,
                verifier=verifier,
                sampling=sampling,
                seed=self.config.seed,
            )
            if part:
                store.add(part, answered, groups.rows(answered))
            count = f"{min(start + size, len(numbers))} of {len(numbers)}"
            log.info(f"{prompt_set.name}: {count} problems of rank 0")
        verifier.close()

    def _write(self, results: dict[str, Any]) -> None:
        """Write results.json."""
        contents = {
            "policy": str(self.config.policy.get("name") or self.config.policy.path),
            "seed": self.config.seed,
            "notes": self.notes,
            "benchmarks": results,
            "git_revision": git_revision(),
            "versions": versions(),
            "config": _plain(self.config),
        }
        temporary = self.folder / "results.tmp"
        temporary.write_text(json.dumps(contents, indent=1))
        os.replace(temporary, self.folder / "results.json")


def _log_failures(name: str, rows: Sequence[dict[str, Any]]) -> None:
    """Log how many answers of a benchmark the verifier failed on, with an example."""
    failed = [row for row in rows if row["kind"] == Kind.ERROR]
    if failed:
        count = f"{len(failed)} of {len(rows)}"
        example = failed[0]["detail"]
        log.info(f"{name}: {count} answers could not be verified, e.g.: {example}")


def _built(
    config: DictConfig, get: Callable[..., Any]
) -> tuple[Any, tuple[list[PromptSet], list[str], int]]:
    """Return the tokenizer and the benchmarks, which the check hands on to the evaluation.

    Args:
        get: ``handed_on.build`` in the check, ``handed_on.take`` in the evaluation.
    """
    # First: it says what is wrong with the model's folder.
    context = context_length(config)
    tokenizer = get("tokenizer", config, lambda: load_tokenizer(config))
    return tokenizer, get("benchmarks", config, lambda: _sets(config, tokenizer, context))


def _sets(
    config: DictConfig, tokenizer: Any, context: int
) -> tuple[list[PromptSet], list[str], int]:
    """Return the benchmarks without problems whose prompts are too long.

    Returns:
        The benchmarks, notes on problems that were left out, and the length of the longest prompt.
    """
    room = context - config.rollout.max_tokens
    limit = min(room, config.data.max_prompt_tokens or room)
    sets, notes, longest = [], [], 0
    for name, task, problems in evaluation_sets(None, build_benchmarks(config)):
        prompts, length, dropped = drop_long(name, task, problems, tokenizer=tokenizer, limit=limit)
        sets.append(PromptSet(name, task, prompts))
        notes += [*task.notes, *dropped]
        longest = max(longest, length)
    return sets, notes, longest


def _settings(config: DictConfig, sets: Sequence[PromptSet]) -> dict[str, Any]:
    """Everything that results depend on; an evaluation that is resumed must have the same."""
    plain = _plain(config)
    policy = str(plain["policy"].get("name") or plain["policy"]["path"])
    settings = {
        "policy": policy,
        "weights": weights_stamp(Path(policy)),
        "temperature": plain["temperature"],
        "seed": plain["seed"],
    }
    for key in ("engine", "dtype", "max_tokens"):
        settings[f"rollout.{key}"] = plain["rollout"][key]
    for prompt_set in sets:
        name = prompt_set.name
        verifier = dict(plain["benchmarks"][name].get("verify") or {})
        verifier.pop("workers", None)  # their number does not change a verdict
        settings[f"verifier of {name}"] = verifier
        settings[f"samples of {name}"] = samples_of(plain["samples"], name)
        prompts = [[p.problem.id, p.token_ids, p.problem.answer] for p in prompt_set.prompts]
        digest = hashlib.sha256(json.dumps(prompts).encode()).hexdigest()
        settings[f"problems of {name}"] = digest[:16]
    return settings


def _plain(config: DictConfig) -> dict[str, Any]:
    """The config as dicts, without the keys of Hydra."""
    return OmegaConf.to_container(without_hydra(config), resolve=True)  # type: ignore[return-value]
