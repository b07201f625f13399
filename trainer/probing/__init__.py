"""Probes: heads over an encoder's vectors, fitted to labels and tested."""
