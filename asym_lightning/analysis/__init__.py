"""Finished runs side by side: statistics, figures, the report."""
