"""The evaluation of a policy on benchmarks: `evaluate.py`."""
