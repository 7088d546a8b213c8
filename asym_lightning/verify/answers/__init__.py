"""Normalise, parse, compare: the parts of the judge of mathematical answers."""
