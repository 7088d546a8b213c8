"""Dropout and its kin switched off: a token has one log-prob, and the engine knows no dropout."""

from typing import Any

# Parts of the names of attributes that make a forward pass random while a module trains.
RANDOM = ("dropout", "pdrop", "drop_prob", "layerdrop", "jitter")


def switch_off_noise(model: Any) -> None:
    """Let the model compute in training as in evaluation, in place.

    Every module is in evaluation mode. Layers that compute their activations again in the backward
    pass must be in training mode for that; their own random attributes are set to 0.
    """
    model.eval()
    for module in model.modules():
        if getattr(module, "gradient_checkpointing", False):
            module.training = True
            for name, value in vars(module).items():
                if isinstance(value, float) and any(part in name for part in RANDOM):
                    setattr(module, name, 0.0)
