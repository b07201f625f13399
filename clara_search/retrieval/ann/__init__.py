"""Approximate nearest-neighbour indices over a table."""
