"""Callbacks of asym-lightning."""
