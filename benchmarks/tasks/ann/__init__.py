"""Benchmarks of approximate search."""
