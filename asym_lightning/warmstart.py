"""`python -m asym_lightning.warmstart FOLDER`: make the policy of chain countdown."""

from asym_lightning.runtime import setup

if __name__ == "__main__":
    setup()
    from asym_lightning.commands.warmstart import main

    main()
