"""The watch over a run: where each rank is, what ranks tell each other, and which one a run ends of."""
