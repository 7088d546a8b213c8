"""`python -m asym_lightning.export CHECKPOINT FOLDER`: export a checkpoint's policy.

The folder can be loaded by transformers and vLLM.
"""

from asym_lightning.runtime import setup

if __name__ == "__main__":
    setup()
    from asym_lightning.commands.export import main

    main()
