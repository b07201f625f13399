"""Datasets: examples, their readers, and declarations of published collections."""
