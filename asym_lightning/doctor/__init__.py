"""`python -m asym_lightning.doctor`: is this machine ready for a run?"""
