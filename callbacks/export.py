"""The trained policy as a transformers folder."""

from pathlib import Path

from lightning import Callback, LightningModule, Trainer

from asym_lightning.learner.policy import PolicyModule
from asym_lightning.learner.policy_folder import save


class PolicyFolder(Callback):
    """Writes the policy when training ends, after the last or an interrupted iteration.

    All ranks still hold the policy then.

    Args:
        folder: where the transformers folder goes.
    """

    def __init__(self, folder: str):
        self.folder = Path(folder)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, PolicyModule)
        # Gathered tensor by tensor, in step on all ranks.
        weights = pl_module.weights()
        state = {name: tensor.cpu() for name, tensor in weights if trainer.is_global_zero}
        if trainer.is_global_zero:
            tokenizer = trainer.datamodule.tokenizer  # type: ignore[attr-defined]
            model = pl_module.model
            save(model, state, tokenizer, folder=self.folder, base=model.name_or_path)
