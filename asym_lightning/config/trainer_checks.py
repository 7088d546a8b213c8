"""Checks of trainer, ranks, servers, memory and checkpoint in a training config."""

from pathlib import Path

import torch
from omegaconf import DictConfig

from asym_lightning.checks import one_of
from asym_lightning.config.division import check_division, check_shared_engine
from asym_lightning.config.loading import at_key, settings_of
from asym_lightning.config.parts import build_trainer, handed_on
from asym_lightning.rollout.server_settings import ServerSettings
from asym_lightning.runtime.run_folder import is_checkpoint
from asym_lightning.types import ConfigError


def world_size(config: DictConfig) -> int:
    """Return the number of ranks of the run.

    ``trainer.devices=auto`` and -1 are all GPUs of this machine.
    """
    devices = config.trainer.devices
    available = 1 if config.trainer.accelerator == "cpu" else torch.cuda.device_count()
    count = devices if isinstance(devices, int) and devices > 0 else available
    return max(1, count) * config.trainer.num_nodes


def check_trainer(config: DictConfig) -> None:
    """Check that Lightning accepts the trainer's keys and the optional callbacks.

    The policy must be able to learn with the strategy.

    Raises:
        ConfigError: one line that names the key, its value, and what would be right.
    """
    import lightning

    from asym_lightning.learner.strategies import adapter_of
    from asym_lightning.learner.zero import set_deepspeed_device

    set_deepspeed_device()
    lightning.pytorch.utilities.rank_zero.rank_zero_module.log.setLevel("WARNING")
    trainer, _ = handed_on.build("trainer", config, lambda: build_trainer(config))
    strategy, precision = config.trainer.strategy, str(config.trainer.precision)
    # Weights in bf16 are too coarse for small updates.
    one_of("trainer.precision", precision, ("32-true", "bf16-mixed"))
    if adapter_of(trainer.strategy) is None:
        raise ConfigError(
            f"trainer.strategy={strategy}: the policy does not learn with Lightning's "
            f"{type(trainer.strategy).__name__}; take auto, ddp, "
            "trainer=fsdp2, trainer=fsdp2_tp or trainer=deepspeed"
        )
    param_dtype = strategy.get("param_dtype") if isinstance(strategy, DictConfig) else None
    if param_dtype and precision.startswith("32"):
        raise ConfigError(
            f"trainer.strategy.param_dtype={param_dtype} with trainer.precision={precision}: "
            "the engine would compute in fp32, the trainer in bf16; "
            "take trainer.precision=bf16-mixed"
        )


def check_servers(config: DictConfig) -> None:
    """Check the servers of ``rollout.placement=servers``, and whether they fit the ranks.

    Raises:
        ConfigError: one line that names the key, its value, and what would be right.
    """
    r, t = config.rollout, config.trainer
    if r.placement != "servers":
        return
    if r.engine != "vllm" or "servers" not in r:
        raise ConfigError(
            f"rollout.placement=servers with rollout.engine={r.engine}: take rollout=servers"
        )
    settings = settings_of(ServerSettings, r.servers, "rollout.servers")
    use_gpus = t.accelerator != "cpu" and torch.cuda.is_available()
    gpus = torch.cuda.device_count() if use_gpus else 0
    with at_key("rollout.servers"):
        settings.check(world_size(config), t.num_nodes, gpus)
    if settings.transfer == "ipc" and r.gpu_memory_utilization >= 0.9:
        raise ConfigError(
            f"rollout.gpu_memory_utilization={r.gpu_memory_utilization}: with "
            "rollout.servers.transfer=ipc a server shares the GPU of the policy; take 0.4 or so"
        )


def check_placement(config: DictConfig) -> None:
    """Check ``rollout.sleep``, and the tensor parallelism of engine and policy.

    Raises:
        ConfigError: one line that names the key, its value, and what would be right.
    """
    r, strategy = config.rollout, config.trainer.strategy
    colocated = r.placement == "colocated"
    if colocated:
        check_shared_engine(config, world_size(config))
    elif r.tensor_parallel_size != 1:
        raise ConfigError(
            f"rollout.tensor_parallel_size={r.tensor_parallel_size}: only engines of the ranks "
            "are shared; with rollout.placement=servers use 1"
        )
    if r.sleep and not (colocated and r.engine == "vllm" and torch.cuda.is_available()):
        raise ConfigError(
            "rollout.sleep=true: only vLLM on the policy's own GPU has memory to give back; "
            "use false"
        )
    if not isinstance(strategy, DictConfig) or "tensor_parallel_size" not in strategy:
        return
    key, size = "trainer.strategy.tensor_parallel_size", strategy.tensor_parallel_size
    check_division(key, size, world_size(config), config=config)
    if size > 1 and config.policy.lora is not None:
        raise ConfigError(
            "trainer=fsdp2_tp does not divide adapters; take trainer=fsdp2, or lora=none"
        )


def check_mini_batches(config: DictConfig) -> None:
    """Check that mini-batches divide an iteration's prompts, and ranks a mini-batch.

    Raises:
        ConfigError: one line that names the keys and their values.
    """
    prompts, mini_batch = config.rollout.prompts_per_iteration, config.policy.prompts_per_mini_batch
    if prompts % mini_batch:
        raise ConfigError(
            f"policy.prompts_per_mini_batch={mini_batch} does not divide "
            f"rollout.prompts_per_iteration={prompts}; "
            "every mini-batch must hold the same number of prompts"
        )
    ranks = world_size(config)
    if mini_batch % ranks:
        raise ConfigError(
            f"policy.prompts_per_mini_batch={mini_batch} does not divide by the {ranks} ranks of "
            f"trainer.devices={config.trainer.devices} "
            f"trainer.num_nodes={config.trainer.num_nodes}; "
            "every rank needs the same number of whole groups"
        )


def check_checkpoint(path: Path, strategy: object, ranks: int) -> None:
    """Check that the checkpoint ``path`` exists, and that this trainer can resume from it.

    A checkpoint of DeepSpeed is a folder with a partition of every rank.

    Args:
        strategy: the trainer's strategy, as in the config.
        ranks: number of ranks of the run.

    Raises:
        ConfigError: one line that names the key and what would be right.
    """
    key, deepspeed = f"ckpt_path={path}", False
    if isinstance(strategy, DictConfig):
        deepspeed = strategy.get("_target_") == "asym_lightning.learner.zero.DeepSpeed"
    if not is_checkpoint(path):
        raise ConfigError(f"{key}: there is no such checkpoint")
    if path.is_dir() != deepspeed:
        writer = "trainer=deepspeed did not write it"
        if path.is_dir():
            writer = "trainer=deepspeed wrote it, in parts, and only trainer=deepspeed resumes it"
        raise ConfigError(
            f"{key}: {writer}; take the trainer that wrote it, or export it and start a new run "
            "from it with policy.path"
        )
    if not isinstance(strategy, DictConfig) or not deepspeed:
        return
    parts = len(list(path.glob("checkpoint/*_optim_states.pt")))
    stages = (1, 2) if (path / "checkpoint" / "mp_rank_00_model_states.pt").exists() else (3,)
    if strategy.stage not in stages:
        raise ConfigError(
            f"trainer.strategy.stage={strategy.stage}: {key} is of stage "
            f"{' or '.join(map(str, stages))}"
        )
    if parts != ranks:
        raise ConfigError(
            f"trainer.devices: {ranks} ranks cannot go on from {key}, which {parts} wrote; "
            f"take {parts} ranks"
        )
