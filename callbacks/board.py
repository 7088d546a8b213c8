"""The first views of TensorBoard: charts in groups, and the run in the hparams tab.

The hparams tab shows the run with its final metrics.
"""

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from callbacks.parts import RunParts

# Category -> chart -> tags (regular expressions). The first category is the one to look at first.
CHARTS: dict[str, dict[str, list[str]]] = {
    "exploration": {
        "reward": ["reward/mean"],
        "prompts solved": ["solved/none", "solved/mixed", "solved/all"],
        "entropy (nats per token)": ["entropy/policy", "entropy/positive", "entropy/negative"],
        "entropy by accuracy of the group": ["entropy/p_.*"],
        "pass@k of the training rollouts": ["train/pass@.*"],
        "pass@k held out": ["eval/.*/pass@.*"],
        "covariance of log-prob and outcome by accuracy": ["covariance/p_.*"],
        "gradient mass": ["advantage/mass_positive", "advantage/mass_negative"],
        "log-prob gain of the update": ["logprob_gain/positive", "logprob_gain/negative"],
        "entropy ledger (nats per token since the start)": ["ledger/total_.*"],
    },
    "health": {
        "engine against trainer (nats)": ["engine/logprob_gap_mean", "engine/logprob_gap_max"],
        "clipped tokens": ["clip/.*"],
        "gradient norm": ["optimizer/grad_norm"],
        "completion length": ["length/mean", "length/correct", "length/wrong", "length/max"],
        "what became of completions": ["verify/(?!rewarded).*"],
        "diversity": ["diversity/.*", "entropy/high_share"],
        "steered values": ["steer/.*"],
    },
    "speed": {
        "seconds": ["time/.*"],
        "share of an iteration": ["time_share/.*"],
        "tokens per second": ["throughput/tokens_per_s", "throughput/learned_tokens_per_s"],
        "wasted share of the learner's tokens": ["throughput/wasted_share"],
        "memory (GiB)": ["memory/peak_gib"],
    },
}
FINAL = ("reward/mean", "entropy/policy", "solved/none")


class Board(Callback):
    """Writes the layout of the custom-scalars tab, and the hparams tab.

    The layout is written when training starts, the hparams tab when it ends, also by an error.
    """

    def take_parts(self, parts: RunParts) -> None:
        self._record, self._hyperparameters = parts.record, parts.hyperparameters

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        layout = {
            category: {title: ["Multiline", tags] for title, tags in charts.items()}
            for category, charts in CHARTS.items()
        }
        for logger in _boards(trainer):
            logger.experiment.add_custom_scalars(layout)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write_hparams(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._write_hparams(trainer)

    def _write_hparams(self, trainer: Trainer) -> None:
        history = self._record.history[-10:]
        final = {}
        for name in FINAL:
            # A mean over no values is not in its row.
            values = [row[name] for row in history if name in row]
            if values:
                final[f"last_10/{name}"] = sum(values) / len(values)
        after = self._record.evaluation.get("after", {})
        final |= {f"final/{name}": value for name, value in after.items()}
        for logger in _boards(trainer):
            logger.log_hyperparams(dict(self._hyperparameters), final)


def _boards(trainer: Trainer) -> list[TensorBoardLogger]:
    """The TensorBoard loggers on the process that writes; none on other processes."""
    if not trainer.is_global_zero:
        return []
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
