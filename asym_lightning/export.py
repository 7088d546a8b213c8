"""`python -m asym_lightning.export CHECKPOINT FOLDER`: a checkpoint becomes a folder that transformers and vLLM load."""

from asym_lightning.commands.export import export, main

__all__ = ["export"]

if __name__ == "__main__":
    main()
