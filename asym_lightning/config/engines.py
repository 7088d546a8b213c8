"""Which rollout engine a config asks for."""

from importlib.util import find_spec
from pathlib import Path

import torch
from omegaconf import DictConfig

from asym_lightning.config.loading import settings_of
from asym_lightning.rollout.base import RolloutEngine
from asym_lightning.runtime.ranks import place_among_ranks


def build_engine(
    kind: str, path: str, config: DictConfig, max_model_len: int, distributed: bool, dtype: str | None = None
) -> RolloutEngine:
    """The rollout engine that the config asks for, in the trainer's precision unless ``dtype`` is given; where vllm is not
    installed, transformers' with one line that says so."""
    if dtype is None:
        dtype = "float32" if str(config.trainer.precision).startswith("32") else "bfloat16"
    r = config.rollout
    served = r.get("placement") == "servers"
    if kind == "vllm" and not served and find_spec("vllm") is None:
        print(
            "vllm is not installed here: completions come from transformers' generate (rollout=transformers), which is slower", flush=True
        )
        kind = "transformers"
    if kind == "transformers":
        from asym_lightning.rollout.transformers import TransformersEngine

        device = f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
        return TransformersEngine(path, dtype, r.max_num_seqs, device, config.policy.trust_remote_code)
    if served:
        return _servers(path, dtype, config, max_model_len)
    from asym_lightning.rollout.vllm import VLLMEngine

    return VLLMEngine(
        path,
        dtype,
        max_model_len,
        max_num_seqs=r.max_num_seqs,
        kv_cache_gb=r.kv_cache_gb,
        gpu_memory_utilization=r.gpu_memory_utilization,
        enforce_eager=_eager(r),
        trust_remote_code=config.policy.trust_remote_code,
        distributed=distributed,
        tensor_parallel_size=r.tensor_parallel_size,
        sleep=r.get("sleep", False),  # an evaluation has no learner
        seed=config.seed,
    )


def _eager(rollout: DictConfig) -> bool:
    """Whether vLLM compiles nothing. Left open it compiles on a GPU alone."""
    return not torch.cuda.is_available() if rollout.enforce_eager is None else bool(rollout.enforce_eager)


def _servers(path: str, dtype: str, config: DictConfig, max_model_len: int) -> RolloutEngine:
    from hydra.core.hydra_config import HydraConfig

    from asym_lightning.rollout.server_settings import ServerSettings
    from asym_lightning.rollout.servers import ServerEngine

    r = config.rollout
    options = ["--seed", str(config.seed), *(["--enforce-eager"] if _eager(r) else [])]
    options += ["--trust-remote-code"] if config.policy.trust_remote_code else []
    options += ["--gpu-memory-utilization", str(r.gpu_memory_utilization)] if torch.cuda.is_available() else []
    return ServerEngine(
        path,
        dtype,
        max_model_len,
        r.max_num_seqs,
        settings_of(ServerSettings, r.servers, "rollout.servers"),
        Path(HydraConfig.get().runtime.output_dir) / "servers",
        options,
        r.kv_cache_gb,
        *place_among_ranks(),
        config.trainer.num_nodes,
    )
