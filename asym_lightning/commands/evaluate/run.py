"""One evaluation, from config to results: `python evaluate.py`."""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.fabric import Fabric
from omegaconf import DictConfig, OmegaConf

from asym_lightning.checks import number, one_of, positive_int, switch
from asym_lightning.commands.evaluate.report import result, show
from asym_lightning.commands.evaluate.store import Store, check_same, remember
from asym_lightning.commands.export import export
from asym_lightning.config.division import check_shared_engine
from asym_lightning.config.loading import build_benchmarks, context_length, load_tokenizer, stop_ids
from asym_lightning.rollout import groups
from asym_lightning.rollout.base import Sampling
from asym_lightning.rollout.protocol import answer, check_sampling, samples_of
from asym_lightning.runtime.run_folder import git_revision, is_checkpoint, versions
from asym_lightning.runtime.watch.parent import taking_along
from asym_lightning.tasks.base import ProblemSet
from asym_lightning.tasks.prepare import drop_long, evaluation_sets
from asym_lightning.types import ConfigError, Kind


def check_all(configs: Sequence[DictConfig]) -> None:
    """Refuse configs that cannot work, before anything is loaded.

    Raises:
        ConfigError: one line that names the key, its value, and what would be right.
    """
    for config in configs:
        for key in ("max_tokens", "max_num_seqs", "kv_cache_gb"):
            positive_int(f"rollout.{key}", config.rollout[key])
        number("rollout.gpu_memory_utilization", config.rollout.gpu_memory_utilization, 0, 1, open_low=True)
        one_of("rollout.engine", config.rollout.engine, ("vllm", "transformers"))
        one_of("rollout.dtype", config.rollout.dtype, ("auto", "float32", "bfloat16", "float16"))
        positive_int("devices", config.devices)
        positive_int("problems_per_part", config.problems_per_part)
        number("seed", config.seed, 0)
        switch("policy.trust_remote_code", config.policy.trust_remote_code)
        if config.rollout.enforce_eager is not None:
            switch("rollout.enforce_eager", config.rollout.enforce_eager)
        if config.data.max_prompt_tokens is not None:
            positive_int("data.max_prompt_tokens", config.data.max_prompt_tokens)
        one_of("accelerator", config.accelerator, ("auto", "cpu", "gpu", "cuda"))
        if not config.benchmarks:
            raise ConfigError("benchmarks is empty: name some, such as benchmarks=[math500,aime24]")
        check_sampling(_plain(config)["samples"], config.temperature, map(str, config.benchmarks))
        if str(config.policy.path).endswith(".ckpt"):
            _check_checkpoint(Path(config.policy.path))
            config = _with_path(config, _base_of(Path(config.policy.path)), config.policy.path)
        check_shared_engine(config, config.devices)
        context, tokenizer = context_length(config), load_tokenizer(config)
        sets = _sets(config, tokenizer, context)[0]
        for one in sets:
            one.task.verifier().close()  # no worker starts yet; one that needs a jail says here that there is none
        check_same(Path(config.hydra.run.dir) / "settings.json", _settings(config, sets, tokenizer))


def evaluate(config: DictConfig) -> float:
    """Score the policy on every benchmark; returns the first one's avg@n."""
    from hydra.core.hydra_config import HydraConfig

    from asym_lightning.commands.quiet import quiet

    quiet()
    folder = Path(HydraConfig.get().runtime.output_dir)
    if str(config.policy.path).endswith(".ckpt"):
        config = _with_path(config, _exported(Path(config.policy.path), folder / "policy"), config.policy.path)
    try:
        return Evaluation(config, folder).run()
    except KeyboardInterrupt:
        print(f"interrupted; the same command with hydra.run.dir={folder} goes on from here", flush=True)
        raise


class Evaluation:
    """Everything of one evaluation: policy, benchmarks, ranks, results.

    Args:
        config: the composed config; ``policy.path`` is a transformers folder or a hub id.
        folder: where completions and results go.
    """

    def __init__(self, config: DictConfig, folder: Path):
        self.config, self.folder = config, folder
        self.tokenizer = load_tokenizer(config)
        self.sets, self.notes, longest = _sets(config, self.tokenizer, context_length(config))
        self.context = longest + config.rollout.max_tokens
        self.fabric = Fabric(accelerator=config.accelerator, devices=config.devices)

    def run(self) -> float:
        """Answer what is not answered yet, write and show the results."""
        with taking_along():
            self.fabric.launch()
        if self.fabric.is_global_zero:
            remember(self.folder / "settings.json", _settings(self.config, self.sets, self.tokenizer))
            print(*self.notes, sep="\n", end="\n" if self.notes else "", flush=True)
        engine: Any = None
        results: dict[str, Any] = {}
        for one in self.sets:
            store = Store(self.folder, one.name)
            pending = store.pending(len(one.problems))
            self.fabric.barrier()  # every rank has read before one writes
            if pending:
                engine = engine or self._engine()
                self._answer(one, store, engine, pending)
            self.fabric.barrier()
            if self.fabric.is_global_zero:
                rows = store.finish()
                failed = [row for row in rows if row["kind"] == Kind.ERROR]
                if failed:
                    print(
                        f"{one.name}: {len(failed)} of {len(rows)} answers could not be verified, e.g.: {failed[0]['detail']}", flush=True
                    )
                results[one.name] = {"temperature": self.config.temperature, **result(rows)}
                self._write(results)
        if engine is not None:
            engine.close()
        if not self.fabric.is_global_zero:
            return 0.0
        shutil.rmtree(self.folder / "parts", ignore_errors=True)
        show(results, f"{self.config.policy.get('name') or self.config.policy.path}, temperature {self.config.temperature:g}")
        print(f"results: {self.folder / 'results.json'}\ncompletions: {self.folder}/BENCHMARK.parquet", flush=True)
        first = next(iter(results.values()))
        return float(first["metrics"][f"avg@{first['samples']}"]["mean"])

    def _engine(self) -> Any:
        from asym_lightning.config.engines import build_engine

        dtype = self.config.rollout.dtype
        if dtype == "auto":
            from transformers import AutoConfig

            stored = AutoConfig.from_pretrained(self.config.policy.path, trust_remote_code=self.config.policy.trust_remote_code).dtype
            dtype = str(stored or "float32").removeprefix("torch.")
        r = self.config.rollout
        return build_engine(r.engine, str(self.config.policy.path), self.config, self.context, self.fabric.world_size > 1, dtype)

    def _answer(self, one: ProblemSet, store: Store, engine: Any, pending: list[int]) -> None:
        """Answer this rank's share of the problems part by part, in as many parts as the first rank; what is finished is on disk."""
        n = samples_of(_plain(self.config)["samples"], one.name)
        sampling = Sampling(n, self.config.rollout.max_tokens, self.config.temperature, stop_ids(self.config, self.tokenizer))
        verifier = one.task.verifier()
        size = self.config.problems_per_part
        numbers = pending[self.fabric.global_rank :: self.fabric.world_size]
        for start in range(0, len(pending[:: self.fabric.world_size]), size):
            part = numbers[start : start + size]
            answered = answer(engine, self.tokenizer, one, part, verifier, sampling, self.config.seed)
            if part:
                store.add(part, answered, groups.rows(answered))
            if self.fabric.is_global_zero:
                print(f"{one.name}: {min(start + size, len(numbers))} of {len(numbers)} problems of the first rank", flush=True)
        verifier.close()

    def _write(self, results: dict[str, Any]) -> None:
        known = {"policy": str(self.config.policy.get("name") or self.config.policy.path), "seed": self.config.seed, "notes": self.notes}
        known |= {"benchmarks": results, "git_revision": git_revision(), "versions": versions()}
        beside = self.folder / "results.tmp"
        beside.write_text(json.dumps({**known, "config": _plain(self.config)}, indent=1))
        os.replace(beside, self.folder / "results.json")


def _sets(config: DictConfig, tokenizer: Any, context: int) -> tuple[list[ProblemSet], list[str], int]:
    """The benchmarks without prompts that do not fit, notes on what was left out, and the longest prompt."""
    room = context - config.rollout.max_tokens
    limit = min(room, config.data.max_prompt_tokens or room)
    sets, notes, longest = [], [], 0
    for one in evaluation_sets(None, build_benchmarks(config)):
        problems, most, more = drop_long(one.name, one.task, one.problems, tokenizer, limit)
        sets.append(ProblemSet(one.name, one.task, problems))
        notes += [*one.task.notes, *more]
        longest = max(longest, most)
    return sets, notes, longest


def _settings(config: DictConfig, sets: Sequence[ProblemSet], tokenizer: Any) -> dict[str, Any]:
    """What an answer depends on, to be compared when an evaluation goes on."""
    plain = _plain(config)
    policy = str(plain["policy"].get("name") or plain["policy"]["path"])
    found = {"policy": policy, "weights": _stamp(Path(policy)), "temperature": plain["temperature"], "seed": plain["seed"]}
    found |= {f"rollout.{key}": plain["rollout"][key] for key in ("engine", "dtype", "max_tokens")}
    for one in sets:
        verifier = plain["benchmarks"][one.name].get("verify") or {}
        found[f"verifier of {one.name}"] = {key: value for key, value in verifier.items() if key != "workers"}
        found[f"samples of {one.name}"] = samples_of(plain["samples"], one.name)
        prompts = [[p.id, one.task.encode(p, tokenizer), p.answer] for p in one.problems]
        found[f"problems of {one.name}"] = hashlib.sha256(json.dumps(prompts).encode()).hexdigest()[:16]
    return found


def _plain(config: DictConfig) -> dict[str, Any]:
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    return OmegaConf.to_container(own, resolve=True)  # type: ignore[return-value]


def _with_path(config: DictConfig, path: str, name: str) -> DictConfig:
    """The config with another policy folder, ``name`` being what the user called it."""
    changed = config.copy()
    OmegaConf.set_struct(changed, False)
    changed.policy.path = path
    changed.policy.name = name
    return changed


def _check_checkpoint(checkpoint: Path) -> None:
    if not is_checkpoint(checkpoint):
        raise ConfigError(f"policy.path={checkpoint}: there is no such checkpoint; a run keeps them under checkpoints/")
    if not (checkpoint.resolve().parent.parent / "config.yaml").is_file():
        raise ConfigError(f"policy.path={checkpoint}: it must lie in the checkpoints/ folder of its run directory, beside config.yaml")


def _base_of(checkpoint: Path) -> str:
    """The folder or hub id of the model that a checkpoint holds weights of."""
    from asym_lightning.learner.embedded import EmbeddedSettings, embedded_policy

    config: Any = OmegaConf.load(checkpoint.resolve().parent.parent / "config.yaml")
    return str(config.policy.path or embedded_policy(EmbeddedSettings()))


def _exported(checkpoint: Path, folder: Path) -> str:
    """The checkpoint as a transformers folder; made once, by the first process."""
    if not folder.is_dir():
        beside = folder.with_name("policy.tmp")
        shutil.rmtree(beside, ignore_errors=True)
        export(checkpoint, beside)
        os.replace(beside, folder)
    return str(folder)


def _stamp(policy: Path) -> str:
    """Which weights these are, without reading them: names, sizes and times of a checkpoint or of a folder's files."""
    patterns = "*.safetensors", "*.bin", "*/*.pt"
    files = [policy] if policy.is_file() else sorted(path for pattern in patterns for path in policy.glob(pattern))
    return ", ".join(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files)
