"""The doctor checks whether this machine is ready for a run: `python -m asym_lightning.doctor`."""
