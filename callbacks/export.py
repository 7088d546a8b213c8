"""The trained policy as a transformers folder."""

from pathlib import Path

from lightning import Callback, LightningModule, Trainer

from asym_lightning.learner.policy import PolicyModule
from asym_lightning.learner.policy_folder import save


class PolicyFolder(Callback):
    """Writes the policy when training ends, after the last iteration or one that was interrupted; all ranks hold it still.

    Args:
        folder: where the transformers folder goes.
    """

    def __init__(self, folder: str):
        self.folder = Path(folder)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, PolicyModule)
        weights = pl_module.weights()  # gathered tensor by tensor, in step on all ranks
        state = {name: tensor.cpu() for name, tensor in weights if trainer.is_global_zero}
        if trainer.is_global_zero:
            save(pl_module.model, state, trainer.datamodule.tokenizer, self.folder)  # type: ignore[attr-defined]
