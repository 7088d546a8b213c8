"""Messages of libraries that a run does not print."""

import logging
import warnings

from asym_lightning.learner.zero import set_deepspeed_device

# Start of each warning to ignore, as a regular expression.
WARNINGS = (
    # Hydra has written .hydra already.
    "Experiment logs directory .* exists and is not empty",
    # callbacks/checkpoint.py says what this means.
    "The dirpath has changed from",
    # Within Lightning.
    ".*isinstance.treespec, LeafSpec.*",
    # Within vLLM.
    ".*torch.distributed.reduce_op.*",
    # Within Lightning, on a GPU.
    r"barrier\(\): using the device under current context",
    # The view is the scores; they are never changed in place.
    "FSDP2-wrapped module .* returned a view tensor",
    # Within DeepSpeed.
    r".torch.distributed.\w+. is deprecated",
    # docs/scaling.md explains these checkpoints.
    "When saving the DeepSpeed Stage 3 checkpoint",
    # A policy drops nothing out in training (learner/noise.py).
    r"Found \d+ module\(s\) in eval mode at the start of training",
    # In MLflow the metric pass@8 is pass8.
    "MLFlow only allows",
)


def quiet() -> None:
    """Silence messages of libraries that say nothing about this run."""
    from transformers.utils.logging import disable_progress_bar

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    disable_progress_bar()
    set_deepspeed_device()
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message=message)
