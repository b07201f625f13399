"""Recordings to waveforms, windows and log-mel spectrograms."""
