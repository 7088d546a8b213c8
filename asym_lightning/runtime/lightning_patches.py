"""The private names of Lightning that this package uses or overrides."""

from collections.abc import Callable
from typing import Any

from lightning import Trainer
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DeepSpeedStrategy, ModelParallelStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher


class ScriptLauncher(_SubprocessScriptLauncher):
    """Lightning's launcher of this machine's other ranks, with its steps as methods.

    Needed since Lightning's own ``launch`` starts a thread that kills this process silently when
    another rank has failed.

    Upstream: https://github.com/Lightning-AI/pytorch-lightning/pull/18218
    Versions: lightning>=2.6,<2.7 (tried with 2.6.6)

    Args:
        launcher: Lightning's launcher, which this one replaces.
    """

    def __init__(self, launcher: _SubprocessScriptLauncher) -> None:
        super().__init__(launcher.cluster_environment, launcher.num_processes, launcher.num_nodes)

    def start_ranks(self) -> None:
        """Start the other ranks; ``procs`` are their processes."""
        self._call_children_scripts()

    def share_threads(self) -> None:
        """Divide the machine's cores among its ranks, unless OMP_NUM_THREADS is set."""
        _set_num_threads_if_needed(num_processes=self.num_processes)


def replace_launcher(
    trainer: Trainer, make: Callable[[_SubprocessScriptLauncher], ScriptLauncher]
) -> None:
    """Replace the trainer's launcher, if it is the one that starts ranks as commands.

    Needed since a strategy makes its launcher itself.

    Upstream: https://github.com/Lightning-AI/pytorch-lightning/issues/17248
    Versions: lightning>=2.6,<2.7 (tried with 2.6.6)
    """
    launcher = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        trainer.strategy._launcher = make(launcher)


def save_last(checkpoint: ModelCheckpoint, trainer: Trainer) -> None:
    """Write ``last.ckpt``, unless Lightning has saved this iteration already.

    Needed since with ``save_last`` Lightning writes it only beside another checkpoint, not where
    the training ends.

    Upstream: https://github.com/Lightning-AI/pytorch-lightning/issues/8126
    Versions: lightning>=2.6,<2.7 (tried with 2.6.6)
    """
    if not checkpoint._should_skip_saving_checkpoint(trainer):
        checkpoint._save_last_checkpoint(trainer, checkpoint._monitor_candidates(trainer))


def set_data_parallel_size(strategy: ModelParallelStrategy, size: int) -> None:
    """Set the number of ranks that shards are made over.

    Needed before ``setup_environment``: a strategy is made before the number of ranks is known, and
    ``auto`` would be the number of nodes.

    Upstream: https://github.com/Lightning-AI/pytorch-lightning/pull/19878
    Versions: lightning>=2.6,<2.7 (tried with 2.6.6)
    """
    strategy._data_parallel_size = size


def set_process_group_backend(strategy: ModelParallelStrategy, backend: str) -> None:
    """Set the backend of the process groups.

    Needed before ``setup_environment``, for gradients on the host beside GPUs: a strategy is made
    before its accelerator is known.

    Upstream: https://github.com/pytorch/pytorch/issues/148532
    Versions: lightning>=2.6,<2.7 (tried with 2.6.6)
    """
    strategy._process_group_backend = backend


class PlainDeepSpeedStrategy(DeepSpeedStrategy):
    """Lightning's strategy for DeepSpeed, with the dtypes that its config has.

    Needed since Lightning would set the dtype of the weights to that of the computation, bf16 for
    ``bf16-mixed``.

    Upstream: https://github.com/Lightning-AI/pytorch-lightning/issues/18016
    Versions: lightning>=2.6,<2.7 (tried with 2.6.6)
    """

    def _format_config(self) -> None:
        self.complete_config()
        self._format_batch_size_and_grad_accum_config()

    def complete_config(self) -> Any:
        """Complete the config with what is known once the module is; a subclass overrides this."""
