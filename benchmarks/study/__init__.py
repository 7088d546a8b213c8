"""The paper's claims, measured on tasks that two cores can learn: `python -m benchmarks.study`."""
