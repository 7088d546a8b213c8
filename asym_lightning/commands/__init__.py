"""Commands: training, evaluation, sweeps, export, the warm start."""
