"""What a command of this project imports sooner or later. The process that commands are forked from imports this module."""

import gc

import accelerate  # noqa: F401
import pandas  # noqa: F401
import tensorboard.compat.proto.event_pb2  # noqa: F401
import torch.utils.tensorboard  # noqa: F401
import vllm.v1.engine.llm_engine
import vllm.v1.worker.cpu_worker  # noqa: F401

import tests.support.parts  # noqa: F401
from asym_lightning.zero import name_device

try:
    name_device()
    import deepspeed  # noqa: F401 (transformers imports it when a policy is saved)
except ImportError:
    pass

gc.collect()
gc.freeze()  # a collection in a forked process then looks at that process's own objects alone: .02 s in place of .5 s
