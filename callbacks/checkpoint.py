"""Lightning's checkpoints, for runs that are interrupted and resumed in another folder."""

import logging
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from asym_lightning.runtime.lightning_patches import save_last

log = logging.getLogger(__name__)


class RunCheckpoint(ModelCheckpoint):
    """``ModelCheckpoint`` with two more promises.

    With ``save_last``, ``last.ckpt`` is of the last iteration wherever a run ends, be it by a
    signal, and exists before the final evaluation begins. With ``monitor``, a resumed run still
    knows the best score although it has a new folder: checkpoints kept there are better than all
    earlier ones.
    """

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        run_ends = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        if run_ends and self.save_last:
            save_last(self, trainer)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        same_folder = self.dirpath == state_dict["dirpath"]
        if self.monitor is None or same_folder or not state_dict["best_k_models"]:
            return
        for name in ("best_model_score", "best_k_models", "kth_best_model_path", "kth_value"):
            setattr(self, name, state_dict[name])
        best, place = float(state_dict["best_model_score"]), state_dict["best_model_path"]
        log.info(
            f"the best {self.monitor} so far, {best:.4g}, is in {place}; better ones will be "
            f"in {self.dirpath}"
        )
