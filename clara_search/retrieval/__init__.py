"""Search over a table: exact and approximate."""
