"""`python train.py` on two processes: the same run as in one process, with the real vLLM.

The two processes share a machine or are two nodes; the policy is a copy in each, or in shards.
"""

import os
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.support import preloaded
from tests.support.commands import (
    SAME,
    SHARDS,
    SMALL,
    ZERO,
    finished,
    metrics,
    rollouts,
    summary,
    train,
    weights,
)
from tests.support.ranks import free_port, rank_environment

ALSO_SAME = (
    *("entropy/", "accuracy/", "train/", "diversity/", "length/", "covariance/"),
    *("ledger/", "verify/", "logprob_gain/"),
)
TWICE = (
    *("task.train_size=256", "trainer.max_epochs=2", "policy.tokens_per_micro_batch=128"),
    *("policy.prompts_per_mini_batch=4", "callbacks.ledger.share=1.0"),
)
NODES = ("trainer.num_nodes=2", "trainer.devices=1")


@pytest.fixture(scope="module")
def alone(policy: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one process with the settings ``TWICE``, in its own interpreter."""
    folder = tmp_path_factory.mktemp("alone")
    output = train(folder, policy, *TWICE, fresh=True)
    assert "Traceback" not in output and "leaked" not in output
    return folder


def test_two_processes_do_what_one_does(policy: str, alone: Path, tmp_path: Path) -> None:
    shared_engine = ("trainer.devices=2", "rollout.tensor_parallel_size=2")
    output = train(tmp_path, policy, *TWICE, *shared_engine, fresh=True)
    assert "leaked" not in output and "nitializing" not in output
    one, two = alone, tmp_path
    assert len(list((two / "rollouts").glob("*rank-1.parquet"))) == 2
    pd.testing.assert_frame_equal(rollouts(one), rollouts(two))
    also = [name for name in metrics(one) if name.startswith(ALSO_SAME) and name not in SAME]
    assert len(also) > 30 and len(rollouts(one).groupby("iteration").tokens.sum()) == 2
    columns = SAME + also
    pd.testing.assert_frame_equal(
        metrics(one)[columns], metrics(two)[columns], rtol=1e-3, atol=1e-7
    )
    after_one, after_two = (summary(folder)["evaluation"]["after"] for folder in (one, two))
    for name in ("avg@8", "pass@8", "distinct_correct"):
        assert after_one[f"eval/heldout/{name}"] == after_two[f"eval/heldout/{name}"]


def test_shards_on_two_nodes_do_what_one_process_does(
    policy: str, alone: Path, tmp_path: Path
) -> None:
    """Run two nodes of one rank each, with the variables that torchrun sets."""
    two, port = tmp_path / "2", free_port()
    line = ["train.py", *SMALL, policy, *TWICE, *SHARDS, *NODES, f"hydra.run.dir={two}"]
    nodes = []
    for rank in range(2):
        node = {"LOCAL_RANK": "0", "GROUP_RANK": str(rank), "LOCAL_WORLD_SIZE": "1"}
        environment = os.environ | rank_environment(rank, 2, port) | node
        nodes.append(preloaded.command(line, environment=environment))
    finished(nodes)
    assert_same_run(alone, two)


@pytest.mark.full
def test_torchrun_starts_shards_on_two_nodes(policy: str, alone: Path, tmp_path: Path) -> None:
    """Run the same two nodes with torchrun itself."""
    two = tmp_path / "2"
    torchrun = [
        *("-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"),
        *("--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{free_port()}", "--rdzv-id=test"),
    ]
    command = ["train.py", *SMALL, policy, *TWICE, *SHARDS, *NODES, f"hydra.run.dir={two}"]
    finished([preloaded.command([*torchrun, *command]) for _ in range(2)])
    assert_same_run(alone, two)


def test_deepspeed_under_slurm_does_what_one_process_does(
    policy: str, alone: Path, tmp_path: Path
) -> None:
    """Run two nodes of one task each, with the variables that srun sets."""
    two = tmp_path / "2"
    line = ["train.py", *SMALL, policy, *TWICE, *ZERO, *NODES, f"hydra.run.dir={two}"]
    job = {
        "JOB_ID": 1,
        "JOB_NAME": "train",
        "NTASKS": 2,
        "NTASKS_PER_NODE": 1,
        "NNODES": 2,
        "NODELIST": "localhost",
    }
    # Slurm sets no port, and Lightning would derive one from the job's number.
    environment = os.environ | {"MASTER_PORT": str(free_port())}
    tasks = []
    for rank in range(2):
        settings = job | {"PROCID": rank, "NODEID": rank, "LOCALID": 0}
        slurm = {f"SLURM_{key}": str(value) for key, value in settings.items()}
        tasks.append(preloaded.command(line, environment=environment | slurm))
    output = finished(tasks)[0]
    assert not re.search("deprecated|WARNING|UserWarning|nitializing", output), output
    assert_same_run(alone, two)


def assert_same_run(one: Path, two: Path) -> None:
    """Check that two ranks did what one did, and that their last checkpoint has their weights."""
    assert summary(two)["logprob_gap_max"] < 1e-4
    assert len(list((two / "rollouts").glob("*rank-1.parquet"))) == 2
    pd.testing.assert_frame_equal(rollouts(one), rollouts(two))
    pd.testing.assert_frame_equal(metrics(one)[SAME], metrics(two)[SAME], rtol=1e-3, atol=1e-6)
    want, got = weights(one), weights(two)
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=0, atol=1e-4)
    checkpoint, exported_folder = two / "checkpoints" / "last.ckpt", two / "exported"
    export = ["-m", "asym_lightning.export", str(checkpoint), str(exported_folder)]
    finished([preloaded.command(export)])
    exported = AutoModelForCausalLM.from_pretrained(exported_folder).state_dict()
    assert all(torch.equal(exported[name], got[name]) for name in got)
