"""Sending weights by NCCL: what can be said of it without GPUs."""

import pytest
from vllm import envs
from vllm.distributed.device_communicators.pynccl import PyNcclCommunicator

from asym_lightning.rollout.server_client import EngineServerError
from asym_lightning.rollout.weight_push import working


def test_a_group_of_vllm_without_nccl_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ``broadcast`` returns without having sent anything: a server would take zeros for weights."""
    monkeypatch.setitem(vars(envs), "VLLM_DISABLE_PYNCCL", True)  # vLLM reads the environment once per process
    group = PyNcclCommunicator.from_unique_id_bytes(bytes(128), 0, 2, "cpu")
    with pytest.raises(EngineServerError, match=r"cannot load NCCL.*folder does without it"):
        working(group)
    group.disabled = False
    assert working(group) is group
