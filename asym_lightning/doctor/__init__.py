"""Is this machine ready for a run: `python -m asym_lightning.doctor`."""
