"""Everything that can be known to be wrong before an engine or the weights of a model are loaded."""

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from omegaconf import DictConfig, ListConfig, OmegaConf

from asym_lightning.algorithms.corrections import NoCorrection
from asym_lightning.checks import number, one_of, positive_int, switch
from asym_lightning.config.callback_checks import check_callbacks, check_monitors, check_objective, evaluated
from asym_lightning.config.division import check_division, check_shared_engine
from asym_lightning.config.loading import (
    build,
    context_length,
    data_settings,
    load_tokenizer,
    prepare_data,
    settings_of,
    skeleton,
    stop_ids,
)
from asym_lightning.learner.adapters import LoRASettings, add_adapters
from asym_lightning.learner.optimizer import OptimizerSettings
from asym_lightning.rollout.protocol import check_sampling
from asym_lightning.rollout.server_settings import ServerSettings
from asym_lightning.runtime import how_to_install
from asym_lightning.runtime.run_folder import is_checkpoint
from asym_lightning.types import ConfigError

NEEDED: dict[str, tuple[tuple[str, ...], str]] = {  # by the start of a _target_: modules, and the extra that brings them
    "lightning.pytorch.loggers.WandbLogger": (("wandb",), "loggers"),
    "asym_lightning.runtime.loggers.mlflow_logger": (("mlflow", "sqlalchemy"), "loggers"),
    "hydra_plugins.hydra_joblib_launcher": (("hydra_plugins.hydra_joblib_launcher",), "sweep"),
    "hydra_plugins.hydra_submitit_launcher": (("hydra_plugins.hydra_submitit_launcher",), "sweep"),
}


def world_size(config: DictConfig) -> int:
    """Number of ranks that the trainer's settings ask for; ``auto`` and -1 are all GPUs of this machine."""
    devices = config.trainer.devices
    every = 1 if config.trainer.accelerator == "cpu" else torch.cuda.device_count()
    count = devices if isinstance(devices, int) and devices > 0 else every
    return max(1, count) * config.trainer.num_nodes


def check_all(configs: Sequence[DictConfig]) -> None:
    """Refuse configs that cannot work; what several have in common is checked once.

    Raises:
        ConfigError: one line that names the key, its value, and what would be right.
    """
    checks: list[tuple[Callable[[DictConfig], object], tuple[str, ...]]] = [
        (check_loggers, ("logger",)),
        (check_launcher, ("hydra", "trainer")),
        (check_numbers, ("rollout", "policy", "trainer", "seed", "ckpt_path")),
        (check_callbacks, ("callbacks",)),
        (check_algorithm, ("algo", "rollout", "policy")),
        (check_staleness, ("algo", "rollout", "data")),
        (check_trainer, ("trainer",)),
        (check_servers, ("rollout", "trainer")),
        (check_placement, ("rollout", "policy", "trainer")),
        (check_adapters, ("policy.lora", "policy.path", "policy.trust_remote_code")),
        (check_data, ("task", "policy.path", "policy.trust_remote_code", "rollout", "data", "benchmarks", "callbacks", "objective")),
    ]
    done: set[str] = set()
    for check, keys in checks:
        for config in configs:
            part = str([check.__name__, *(OmegaConf.select(config, key) for key in keys)])
            if part not in done:
                check(config)
                done.add(part)


def check_loggers(config: DictConfig) -> None:
    """What the chosen loggers need is there."""
    for name, logger in (config.logger or {}).items():
        _check_installed(f"logger.{name}", logger._target_)
        if logger._target_.endswith(".WandbLogger") and not logger.offline and os.environ.get("WANDB_MODE", "online") == "online":
            _check_account(f"logger.{name}.offline=true")


def _check_account(way_out: str) -> None:
    import wandb

    try:
        known, why = wandb.login(prompt=False), "no account is known here"
    except wandb.errors.Error as error:
        known, why = False, str(error)
    if not known:
        raise ConfigError(f"Weights & Biases: {why}; run `wandb login`, set WANDB_API_KEY, or log without it: {way_out}")


def check_launcher(config: DictConfig) -> None:
    """What the chosen launcher of a sweep needs is there."""
    target = config.hydra.launcher._target_
    _check_installed("hydra/launcher", target)
    if "submitit" in target and not isinstance(config.trainer.devices, int):
        raise ConfigError(f"trainer.devices={config.trainer.devices}: a job has to ask for its GPUs by number; add trainer.devices=8")


def _check_installed(key: str, target: str) -> None:
    modules, extra = next((needed for start, needed in NEEDED.items() if target.startswith(start)), ((), ""))
    absent = [module for module in modules if find_spec(module) is None]
    if absent:
        raise ConfigError(f"{key}: {target} needs {', '.join(absent)}, which is not installed: {how_to_install(extra)}")


def check_algorithm(config: DictConfig) -> None:
    """The method can be built, and the group is large enough for it."""
    algorithm = build(config, "algo")
    needs_group = getattr(algorithm.advantage, "needs_group", False)  # a plain function says nothing
    if config.rollout.group_size < 2 and needs_group:
        raise ConfigError(
            f"rollout.group_size={config.rollout.group_size}: algo={algorithm.name} compares rollouts of a group; use 2 or more"
        )
    corrected = not isinstance(algorithm.correction, NoCorrection) and not getattr(algorithm.correction, "drops", False)
    if config.policy.old_logprobs == "engine" and algorithm.uses_ratio and corrected:
        raise ConfigError(
            f"policy.old_logprobs=engine: the ratio in the loss of algo={algorithm.name} is against the engine's log-probs already, and "
            "algo.correction would weigh by it twice; take correction=none, icepop or mis, or policy.old_logprobs=trainer"
        )
    graded = algorithm.rules.overlong_share > 0 or any(getattr(m, "where", "") == "reward" for m in algorithm.modulation)
    rewards = torch.zeros(1, config.rollout.group_size)
    rewards[0, 0] = 0.5 if graded else 0.0
    try:
        algorithm.advantages(rewards, torch.ones_like(rewards).long())
    except ValueError as error:
        raise ConfigError(f"algo={algorithm.name}: {error}") from None


def check_staleness(config: DictConfig) -> None:
    """What can be made ahead of the learner is."""
    key = f"rollout.staleness={config.rollout.staleness}"
    number("rollout.staleness", config.rollout.staleness, 0)
    if not isinstance(config.rollout.staleness, int):
        raise ConfigError(f"{key}: must be a whole number of iterations")
    if not config.rollout.staleness:
        return
    if config.rollout.placement != "servers":
        raise ConfigError(f"{key}: an engine within the trainer's process cannot work while it learns; add rollout=servers")
    if build(config, "algo").rules.dynamic_sampling:
        raise ConfigError(f"{key}: algo={config.algo.name} replaces groups in the iteration that learns; take rollout.staleness=0")
    if data_settings(config).difficulty.active:
        raise ConfigError(f"{key}: data.difficulty chooses problems by all groups before; take rollout.staleness=0")


def check_trainer(config: DictConfig) -> None:
    """Lightning accepts devices, strategy and precision, and the policy the strategy."""
    import lightning

    from asym_lightning.learner.fsdp import learns_with
    from asym_lightning.learner.zero import name_device

    name_device()
    lightning.pytorch.utilities.rank_zero.rank_zero_module.log.setLevel("WARNING")
    made = build(config, "trainer", logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    strategy, precision = config.trainer.strategy, str(config.trainer.precision)
    one_of("trainer.precision", precision, ("32-true", "bf16-mixed"))  # weights in bf16 are too coarse for small updates
    if not learns_with(made.strategy):
        raise ConfigError(
            f"trainer.strategy={strategy}: the policy does not learn with Lightning's {type(made.strategy).__name__}; take auto, ddp, "
            "trainer=fsdp2, trainer=fsdp2_tp or trainer=deepspeed"
        )
    if isinstance(strategy, DictConfig) and strategy.get("param_dtype") and precision.startswith("32"):
        raise ConfigError(
            f"trainer.strategy.param_dtype={strategy.param_dtype} with trainer.precision={precision}: the engine would compute in fp32, "
            "the trainer in bf16; take trainer.precision=bf16-mixed"
        )


def check_servers(config: DictConfig) -> None:
    """Servers that sample are there or can be started, and fit the ranks."""
    r, t = config.rollout, config.trainer
    one_of("rollout.placement", r.placement, ("colocated", "servers"))
    if r.placement == "servers":
        if r.engine != "vllm" or "servers" not in r:
            raise ConfigError(f"rollout.placement=servers with rollout.engine={r.engine}: take rollout=servers")
        settings = settings_of(ServerSettings, r.servers, "rollout.servers")
        gpus = 0 if t.accelerator == "cpu" or not torch.cuda.is_available() else torch.cuda.device_count()
        settings.check(world_size(config), t.num_nodes, gpus)
        if settings.transfer == "ipc" and r.gpu_memory_utilization >= 0.9:
            raise ConfigError(
                f"rollout.gpu_memory_utilization={r.gpu_memory_utilization}: with rollout.servers.transfer=ipc a server shares the GPU of "
                "the policy; take 0.4 or so"
            )


def check_placement(config: DictConfig) -> None:
    """Engine and policy find room as they are asked to: layers can be divided, and memory given back."""
    r, strategy = config.rollout, config.trainer.strategy
    one_of("rollout.sleep", str(r.sleep), ("True", "False"))
    if r.placement == "colocated":
        check_shared_engine(config, world_size(config))
    elif r.tensor_parallel_size != 1:
        raise ConfigError(f"rollout.tensor_parallel_size={r.tensor_parallel_size}: only engines of the ranks are shared; servers: use 1")
    if r.sleep and (r.placement != "colocated" or r.engine != "vllm" or not torch.cuda.is_available()):
        raise ConfigError("rollout.sleep=true: only vLLM on the policy's own GPU has memory to give back; use false")
    if isinstance(strategy, DictConfig) and "tensor_parallel_size" in strategy:
        check_division("trainer.strategy.tensor_parallel_size", strategy.tensor_parallel_size, world_size(config), config)
        if strategy.tensor_parallel_size > 1 and config.policy.lora is not None:
            raise ConfigError("trainer=fsdp2_tp does not divide adapters; take trainer=fsdp2, or lora=none")


def check_adapters(config: DictConfig) -> None:
    """The policy has layers for the adapters."""
    if config.policy.lora is not None:
        add_adapters(skeleton(config), settings_of(LoRASettings, config.policy.lora, "policy.lora"))


def check_data(config: DictConfig) -> None:
    """The model is one, the task's prompts fit it, and its answers can be verified on this machine."""
    context = context_length(config)
    tokenizer = load_tokenizer(config)
    stop_ids(config, tokenizer)
    prepared = prepare_data(config, tokenizer, context)
    sets = prepared.sets
    for task in (prepared.task, *(one.task for one in sets)):
        task.verifier().close()  # no worker starts yet; one that needs a jail says here that there is none
    evaluation, names = config.callbacks.get("evaluation"), [one.name for one in sets]
    if evaluation is not None and evaluation.problems:
        samples = OmegaConf.to_container(evaluation, resolve=True)["samples"]  # type: ignore[call-overload, index]
        check_sampling(samples, evaluation.temperature, names, "callbacks.evaluation.")
    known = evaluated(config, names)
    check_objective(config, known)
    check_monitors(config, known)


def check_numbers(config: DictConfig) -> None:
    """Counts that have to be whole, positive or divide each other."""
    r, p, t = config.rollout, config.policy, config.trainer
    whole = {
        "rollout.group_size": r.group_size,
        "rollout.prompts_per_iteration": r.prompts_per_iteration,
        "rollout.max_tokens": r.max_tokens,
        "rollout.max_num_seqs": r.max_num_seqs,
        "rollout.kv_cache_gb": r.kv_cache_gb,
        "policy.prompts_per_mini_batch": p.prompts_per_mini_batch,
        "policy.tokens_per_micro_batch": p.tokens_per_micro_batch,
        "trainer.max_epochs": t.max_epochs,
        "trainer.num_nodes": t.num_nodes,
    }
    if t.devices not in ("auto", "-1", -1) and (type(t.devices) is not int or t.devices < 1):
        raise ConfigError(f"trainer.devices={t.devices}: must be a number, or auto; CUDA_VISIBLE_DEVICES=2,3 chooses the GPUs")
    for key, value in whole.items():
        positive_int(key, value)
    for key in ("trust_remote_code", "share_prompts", "gradient_checkpointing", "compile"):
        switch(f"policy.{key}", p[key])
    if r.enforce_eager is not None:
        switch("rollout.enforce_eager", r.enforce_eager)
    if p.logprob_gap_limit is not None:
        number("policy.logprob_gap_limit", p.logprob_gap_limit, 0, open_low=True)
    if p.path is not None and not isinstance(p.path, str):
        raise ConfigError(f"policy.path={p.path}: must be a folder or the id of a model on the hub")
    o = p.optimizer
    settings_of(OptimizerSettings, o, "policy.optimizer")
    for key, value in {"learning_rate": o.learning_rate, "max_grad_norm": o.max_grad_norm}.items():
        number(f"policy.optimizer.{key}", value, 0, open_low=True)
    for key, value in {"weight_decay": o.weight_decay, "warmup_steps": o.warmup_steps}.items():
        number(f"policy.optimizer.{key}", value, 0)
    if not (isinstance(o.betas, ListConfig) and len(o.betas) == 2 and all(isinstance(b, float | int) and 0 <= b < 1 for b in o.betas)):
        raise ConfigError(f"policy.optimizer.betas={o.betas}: must be two numbers of at least 0 and below 1, such as [0.9,0.999]")
    number("rollout.temperature", r.temperature, 0, open_low=True)
    number("rollout.gpu_memory_utilization", r.gpu_memory_utilization, 0, 1, open_low=True)
    number("seed", config.seed, 0)
    one_of("rollout.engine", r.engine, ("vllm", "transformers"))
    one_of("policy.old_logprobs", p.old_logprobs, ("trainer", "engine"))
    _check_division(config)
    if config.ckpt_path is not None:
        _check_checkpoint(Path(str(config.ckpt_path)), t.strategy, world_size(config))


def _check_checkpoint(path: Path, strategy: object, ranks: int) -> None:
    """It is there, and of a trainer that this one goes on from: DeepSpeed's are folders with the parts of every rank."""
    key, deepspeed = (
        f"ckpt_path={path}",
        isinstance(strategy, DictConfig) and strategy.get("_target_") == "asym_lightning.learner.zero.DeepSpeed",
    )
    if not is_checkpoint(path):
        raise ConfigError(f"{key}: there is no such checkpoint")
    if path.is_dir() != deepspeed:
        whose = "trainer=deepspeed wrote it, in parts, and alone goes on from it" if path.is_dir() else "trainer=deepspeed did not write it"
        raise ConfigError(f"{key}: {whose}; take the trainer that it is of, or export it and start anew with policy.path")
    if isinstance(strategy, DictConfig) and deepspeed:
        parts = len(list(path.glob("checkpoint/*_optim_states.pt")))
        stages = (1, 2) if (path / "checkpoint" / "mp_rank_00_model_states.pt").exists() else (3,)
        if strategy.stage not in stages:
            raise ConfigError(f"trainer.strategy.stage={strategy.stage}: {key} is of stage {' or '.join(map(str, stages))}")
        if parts != ranks:
            raise ConfigError(f"trainer.devices: {ranks} ranks cannot go on from {key}, which {parts} wrote; take as many")


def _check_division(config: DictConfig) -> None:
    prompts, mini_batch = config.rollout.prompts_per_iteration, config.policy.prompts_per_mini_batch
    if prompts % mini_batch:
        raise ConfigError(
            f"policy.prompts_per_mini_batch={mini_batch} does not divide rollout.prompts_per_iteration={prompts}; "
            "every mini-batch must hold the same number of prompts"
        )
    ranks = world_size(config)
    if mini_batch % ranks:
        raise ConfigError(
            f"policy.prompts_per_mini_batch={mini_batch} does not divide by the {ranks} ranks of trainer.devices="
            f"{config.trainer.devices} trainer.num_nodes={config.trainer.num_nodes}; every rank needs the same number of whole groups"
        )
