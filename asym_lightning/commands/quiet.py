"""What a run does not print."""

import logging
import warnings

from asym_lightning.learner.zero import name_device


def quiet() -> None:
    """Keep what says nothing about this run off the terminal."""
    from transformers.utils.logging import disable_progress_bar

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    disable_progress_bar()
    name_device()
    warnings.filterwarnings("ignore", message="Experiment logs directory .* exists and is not empty")  # .hydra is there already
    warnings.filterwarnings("ignore", message="The dirpath has changed from")  # callbacks/checkpoint.py says what follows
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")  # within lightning
    warnings.filterwarnings("ignore", message=".*torch.distributed.reduce_op.*")  # within vllm
    warnings.filterwarnings("ignore", message=r"barrier\(\): using the device under current context")  # within lightning, on a GPU
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")  # scores, which nothing changes in place
    warnings.filterwarnings("ignore", message=r".torch.distributed.\w+. is deprecated")  # within deepspeed
    warnings.filterwarnings("ignore", message="When saving the DeepSpeed Stage 3 checkpoint")  # docs/scaling.md says it
    warnings.filterwarnings("ignore", message="MLFlow only allows")  # pass@8 becomes pass8 there
