"""Benchmarks of quality and speed; run as `python -m benchmarks`."""
