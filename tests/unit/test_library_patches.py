"""The private names of other libraries are in the installed versions, and the patches work."""

import importlib
import inspect
import os
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from omegaconf import OmegaConf
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from asym_lightning.config.omegaconf_patches import full_key
from asym_lightning.learner import deepspeed_patches, transformers_patches
from asym_lightning.learner.fsdp import FSDP2
from asym_lightning.learner.zero import set_deepspeed_device
from asym_lightning.runtime import lightning_patches, torch_patches
from asym_lightning.tasks.datasets_patches import read_cache_only
from tests.support.ranks import one_rank

# torch


class Writes(torch_patches.WriteObserver):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, int]] = []

    def wrote(self, func: Any, target: torch.Tensor, args: Any) -> None:
        self.seen.append((str(func), target.data_ptr()))


def test_a_write_observer_sees_writes_alone() -> None:
    tensor, other = torch.zeros(3), torch.ones(3)
    with Writes() as writes:
        tensor.add_(other)
        _ = tensor + other
        tensor[1:].copy_(other[1:])
    assert writes.seen == [
        ("aten.add_.Tensor", tensor.data_ptr()),
        ("aten.copy_.default", tensor[1:].data_ptr()),
    ]


def test_wait_at_least_raises_the_time_outs_that_are_shorter() -> None:
    def seconds() -> list[float]:
        backends = [group._get_backend(torch.device("cpu")) for group in groups]
        return [backend.options._timeout.total_seconds() for backend in backends]

    with one_rank():
        groups: list[Any] = [
            torch.distributed.new_group(timeout=timedelta(seconds=given)) for given in (7, 60)
        ]
        assert seconds() == [7, 60]
        torch_patches.wait_at_least(timedelta(seconds=20))
        assert seconds() == [20, 60]


def test_expect_sequential_collectives_silences_the_logger_that_warns_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module: Any = importlib.import_module("torch.distributed.tensor._redistribute")
    assert "sequential" in inspect.getsource(module) and module.logger.name == module.__name__
    level = module.logger.level
    monkeypatch.setattr(module.logger, "disabled", False)  # as Hydra leaves it
    torch_patches.expect_sequential_collectives()
    assert not module.logger.isEnabledFor(30) and module.logger.isEnabledFor(40)
    module.logger.setLevel(level)


# Lightning


def test_a_script_launcher_starts_ranks_and_divides_the_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.setenv(name, "")  # and back to what it was, after the test
        monkeypatch.delenv(name)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # share_threads leaves a number of the user's
    given = _SubprocessScriptLauncher(LightningEnvironment(), num_processes=1, num_nodes=1)
    launcher = lightning_patches.ScriptLauncher(given)
    launcher.start_ranks()
    started = [os.environ[name] for name in ("LOCAL_RANK", "WORLD_SIZE")]
    assert started == ["0", "1"] and launcher.procs == []
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    launcher.share_threads()
    assert threads == []
    monkeypatch.delenv("OMP_NUM_THREADS")
    launcher.share_threads()
    assert [int(os.environ["OMP_NUM_THREADS"])] == threads


def test_replace_launcher_replaces_the_one_that_starts_commands() -> None:
    options: Any = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    two, one = Trainer(devices=2, strategy="ddp", **options), Trainer(devices=1, **options)
    for trainer in (two, one):
        lightning_patches.replace_launcher(trainer, lightning_patches.ScriptLauncher)
    assert isinstance(two.strategy.launcher, lightning_patches.ScriptLauncher)
    assert two.strategy.launcher.num_processes == 2
    assert one.strategy.launcher is None


class EndsEarly(ModelCheckpoint):
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        lightning_patches.save_last(self, trainer)


@pytest.mark.parametrize(("every", "files"), [(9, {"last.ckpt"}), (1, {"last.ckpt", "0.ckpt"})])
def test_save_last_writes_where_lightning_has_not(
    every: int, files: set[str], tmp_path: Path
) -> None:
    checkpoint = EndsEarly(tmp_path, "{epoch}", every_n_epochs=every, save_last=True)
    checkpoint.filename, checkpoint.auto_insert_metric_name = "{epoch}", False
    trainer = Trainer(
        accelerator="cpu",
        callbacks=[checkpoint],
        limit_train_batches=1,
        limit_val_batches=0,
        max_epochs=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(BoringModel())
    assert {path.name for path in tmp_path.iterdir()} == files


def test_the_sizes_and_the_backend_of_a_strategy_are_set_from_outside() -> None:
    strategy = ModelParallelStrategy()
    assert strategy._data_parallel_size == "auto" and strategy.process_group_backend is None
    lightning_patches.set_data_parallel_size(strategy, 6)
    lightning_patches.set_process_group_backend(strategy, "gloo")
    assert strategy._data_parallel_size == 6 and strategy.process_group_backend == "gloo"
    source = inspect.getsource(ModelParallelStrategy)
    assert "self._process_group_backend or " in source, "a backend that is set is kept"
    assert 'if self._data_parallel_size == "auto"' in source


@pytest.mark.parametrize(
    ("accelerator", "cpu_offload", "backend"),
    [
        (CUDAAccelerator(), True, "cpu:gloo,cuda:nccl"),
        (CUDAAccelerator(), False, None),
        (CPUAccelerator(), True, None),
    ],
)
def test_gradients_on_the_host_get_gloo_beside_nccl(
    accelerator: Any, cpu_offload: bool, backend: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelParallelStrategy, "setup_environment", lambda self: None)
    strategy = FSDP2(cpu_offload=cpu_offload)
    strategy.accelerator = accelerator
    strategy.parallel_devices = [torch.device("cpu")] * 2
    strategy.setup_environment()
    assert strategy.process_group_backend == backend and strategy._data_parallel_size == 2


def test_a_plain_deepspeed_strategy_leaves_the_dtypes_to_its_config() -> None:
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    from lightning.pytorch.plugins.precision import DeepSpeedPrecision
    from lightning.pytorch.strategies import DeepSpeedStrategy

    class Completed(lightning_patches.PlainDeepSpeedStrategy):
        def complete_config(self) -> None:
            assert isinstance(self.config, dict)
            self.config["completed"] = True

    formatted = []
    for kind in (DeepSpeedStrategy, Completed):
        strategy = kind(config={"train_micro_batch_size_per_gpu": 1})
        strategy.precision_plugin = DeepSpeedPrecision("bf16-mixed")
        strategy._init_config_if_needed()
        formatted.append(strategy.config)
    assert "bf16" in formatted[0]
    assert formatted[1] == {"train_micro_batch_size_per_gpu": 1, "completed": True}


# DeepSpeed


@pytest.fixture
def deepspeed() -> Any:
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    set_deepspeed_device()
    import deepspeed

    return deepspeed


def test_leave_out_shared_memory_names_the_operation_that_deepspeed_builds(
    deepspeed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator

    operations = deepspeed.ops.__compatible_ops__
    monkeypatch.setitem(operations, "deepspeed_shm_comm", True)
    deepspeed_patches.leave_out_shared_memory()
    assert operations["deepspeed_shm_comm"] is False
    built = CPU_Accelerator().create_op_builder("ShareMemCommBuilder").NAME
    assert built == "deepspeed_shm_comm"
    communication: Any = importlib.import_module("deepspeed.comm.torch")
    assert "__compatible_ops__.get(builder.NAME" in inspect.getsource(communication.build_shm_op)


def test_is_divided_tells_a_parameter_as_deepspeed_does(deepspeed: Any) -> None:
    from deepspeed.runtime.zero.partition_parameters import is_zero_param

    plain, divided = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    divided.ds_id = 3  # type: ignore[attr-defined]
    for parameter in (plain, divided):
        assert deepspeed_patches.is_divided(parameter) == bool(is_zero_param(parameter))
    assert deepspeed_patches.is_divided(divided)


def test_overflowed_reads_what_optimizers_of_zero_set(deepspeed: Any) -> None:
    from deepspeed.runtime.zero import stage3, stage_1_and_2

    for kind in (stage_1_and_2.DeepSpeedZeroOptimizer, stage3.DeepSpeedZeroOptimizer_Stage3):
        assert "self.overflow = " in inspect.getsource(kind)
    for optimizer, wanted in ({"overflow": True}, True), ({"overflow": False}, False), ({}, False):
        engine = SimpleNamespace(optimizer=SimpleNamespace(**optimizer))
        assert deepspeed_patches.overflowed(engine) is wanted


# transformers


def qwen3() -> Qwen3ForCausalLM:
    shape: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "vocab_size": 11}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4}
    return Qwen3ForCausalLM(Qwen3Config(num_hidden_layers=3, **shape, **heads))


def test_layers_of_a_model_are_those_that_its_class_names() -> None:
    model = qwen3()
    assert transformers_patches.layers_of(model) == list(model.model.layers)
    other = GPT2LMHeadModel(GPT2Config(n_embd=8, n_head=2, n_layer=2, vocab_size=11))
    assert transformers_patches.layers_of(other) == list(other.transformer.h)
    assert transformers_patches.layers_of(nn.Linear(2, 2)) == []


def test_set_attention_makes_every_layer_call_the_registered_function() -> None:
    from transformers import AttentionInterface

    calls = []

    def attention(module: Any, query: torch.Tensor, *others: Any, **options: Any) -> Any:
        calls.append(options["layout"])
        return query.transpose(1, 2), None

    AttentionInterface.register("observed", attention)
    model = qwen3()
    assert model.is_backend_compatible()
    assert transformers_patches.attention_in(model) != "observed"
    transformers_patches.set_attention(model, "observed")
    assert transformers_patches.attention_in(model) == "observed"
    model(input_ids=torch.tensor([[1, 2]]), use_cache=False, layout="given")
    assert calls == ["given"] * 3


def test_a_model_with_stacked_experts_has_another_form_in_its_files() -> None:
    shape: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "vocab_size": 11}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 1}
    with torch.device("meta"):
        experts = MixtralForCausalLM(MixtralConfig(num_local_experts=2, **shape, **heads))
    assert transformers_patches.has_other_form(experts)
    assert not transformers_patches.has_other_form(qwen3())
    loaded = qwen3()
    loaded._weight_conversions = []
    assert not transformers_patches.has_other_form(loaded)


# OmegaConf and datasets


def test_a_full_key_begins_at_the_root() -> None:
    config = OmegaConf.create({"algo": {"modulation": {"mine": {"limit": 1}}}})
    assert full_key(config.algo.modulation.mine) == "algo.modulation.mine"
    assert full_key(config.algo, "modulation") == "algo.modulation"


def test_read_cache_only_keeps_datasets_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    from datasets.utils.file_utils import _raise_if_offline_mode_is_enabled

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    _raise_if_offline_mode_is_enabled()
    read_cache_only()
    with pytest.raises(ConnectionError, match="Offline mode is enabled"):
        _raise_if_offline_mode_is_enabled()
