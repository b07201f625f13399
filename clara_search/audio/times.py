"""Times in a recording."""

LONGEST_S = 1e9
"""Seconds, thirty years: a time that lies further from the start, or is no number, is that of a broken row."""
