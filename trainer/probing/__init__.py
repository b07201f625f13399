"""Probes: heads over embeddings, fitted and tested."""
