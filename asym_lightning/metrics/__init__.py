"""Numbers from groups and batches, as pure functions."""
