"""Benchmarks of what a model finds, and of how that is scored."""
