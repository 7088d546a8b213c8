"""Scoring a policy on named sets of problems: during training (`callbacks/evaluation.py`) and by itself (`evaluate.py`)."""
