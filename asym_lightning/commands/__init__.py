"""What a person starts: training, evaluation, sweeps, export, the warm start."""
