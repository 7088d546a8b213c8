"""`evaluate.py`: a policy is scored on named sets of problems."""
