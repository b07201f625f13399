"""Waveforms and texts to vectors."""
