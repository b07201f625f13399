"""Probabilities beside cosines, fitted to each table and model."""
