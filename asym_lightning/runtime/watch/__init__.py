"""The watchdog of a run: the state of each rank, their reports, and the cause that ends a run."""
