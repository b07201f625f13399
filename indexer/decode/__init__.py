"""Items to waveforms."""
