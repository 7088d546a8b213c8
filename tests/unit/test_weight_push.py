"""Weights sent by NCCL: the checks that need no GPU."""

import pytest
from vllm import envs
from vllm.distributed.device_communicators.pynccl import PyNcclCommunicator

from asym_lightning.rollout.server_client import EngineServerError
from asym_lightning.rollout.weight_push import require_nccl


def test_a_group_of_vllm_without_nccl_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ``broadcast`` returns without sending: a server would load zeros as weights."""
    # vLLM reads the environment once per process.
    monkeypatch.setitem(vars(envs), "VLLM_DISABLE_PYNCCL", True)
    group = PyNcclCommunicator.from_unique_id_bytes(bytes(128), 0, 2, "cpu")
    with pytest.raises(EngineServerError, match=r"cannot load NCCL.*folder does without it"):
        require_nccl(group)
    group.disabled = False
    assert require_nccl(group) is group
