"""Tasks: the sources of problems, and the order in which problems are served."""
