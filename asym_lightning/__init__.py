"""Exploration in RL with verifiable rewards, on PyTorch Lightning."""

import os

__version__ = "0.1.0"

# Read when torch is loaded. Threads of one operation wait for each other in a loop; with libgomp's own 300,000 turns they
# keep another program's threads, and their own, from the core that these need: benchmarks/beside.py.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
