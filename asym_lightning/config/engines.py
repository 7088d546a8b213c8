"""The rollout engine of a config."""

import logging
import re
from importlib.util import find_spec
from pathlib import Path

import torch
from omegaconf import DictConfig

from asym_lightning.config.loading import settings_of
from asym_lightning.rollout.base import RolloutEngine
from asym_lightning.runtime.ranks import place_among_ranks
from asym_lightning.types import ConfigError

log = logging.getLogger(__name__)


def build_engine(
    kind: str,
    path: str,
    config: DictConfig,
    max_model_len: int,
    distributed: bool,
    dtype: str | None = None,
) -> RolloutEngine:
    """Build the rollout engine of a config.

    If vLLM is not installed, log a line and build the engine of transformers instead.

    Args:
        kind: ``vllm`` or ``transformers``.
        path: folder or hub id of the model.
        max_model_len: longest prompt plus completion, in tokens.
        distributed: whether several ranks build their engines together.
        dtype: None is the trainer's precision.

    Raises:
        ConfigError: vLLM cannot run the model.
    """
    if dtype is None:
        dtype = "float32" if str(config.trainer.precision).startswith("32") else "bfloat16"
    r = config.rollout
    use_servers = r.get("placement") == "servers"
    if kind == "vllm" and not use_servers and find_spec("vllm") is None:
        log.info(
            "vllm is not installed here: completions come from transformers' generate "
            "(rollout=transformers), which is slower"
        )
        kind = "transformers"
    if kind == "transformers":
        from asym_lightning.rollout.transformers import TransformersEngine

        return TransformersEngine(
            path,
            dtype,
            r.max_num_seqs,
            device=f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu",
            trust_remote_code=config.policy.trust_remote_code,
        )
    if use_servers:
        return _server_engine(path, dtype, config, max_model_len=max_model_len)
    from asym_lightning.rollout.vllm import VLLMEngine

    try:
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
            # The config of an evaluation has no such key: it has no learner to give memory to.
            sleep=r.get("sleep", False),
            seed=config.seed,
        )
    # vLLM refuses models with errors of many classes.
    except Exception as error:
        log.debug("vLLM cannot run the model", exc_info=True)
        raise ConfigError(
            f"rollout: vLLM cannot run policy.path={path}: {reason_of(error)}; "
            "rollout=transformers does without vLLM"
        ) from error


def reason_of(error: Exception) -> str:
    """The words of an error of vLLM in one line, without the frame that pydantic puts around it."""
    text = " ".join(str(error).split())
    framed = re.search(r"(?:Value error|Assertion error|Assertion failed), (.*?) \[type=", text)
    said = framed[1] if framed else text or type(error).__name__
    # vLLM lists all that it supports.
    return said.split(" Supported architectures")[0][:300]


def _eager(rollout: DictConfig) -> bool:
    """Whether vLLM must not compile. With ``enforce_eager=null`` it compiles only on a GPU."""
    if rollout.enforce_eager is None:
        return not torch.cuda.is_available()
    return bool(rollout.enforce_eager)


def _server_engine(path: str, dtype: str, config: DictConfig, max_model_len: int) -> RolloutEngine:
    from hydra.core.hydra_config import HydraConfig

    from asym_lightning.rollout.server_settings import ServerSettings
    from asym_lightning.rollout.servers import ServerEngine

    r = config.rollout
    options = ["--seed", str(config.seed)]
    if _eager(r):
        options += ["--enforce-eager"]
    if config.policy.trust_remote_code:
        options += ["--trust-remote-code"]
    if torch.cuda.is_available():
        options += ["--gpu-memory-utilization", str(r.gpu_memory_utilization)]
    rank, world = place_among_ranks()
    return ServerEngine(
        path,
        dtype,
        max_model_len,
        max_num_seqs=r.max_num_seqs,
        settings=settings_of(ServerSettings, r.servers, "rollout.servers"),
        logs=Path(HydraConfig.get().runtime.output_dir) / "servers",
        options=options,
        kv_cache_gb=r.kv_cache_gb,
        rank=rank,
        world=world,
        machines=config.trainer.num_nodes,
    )
