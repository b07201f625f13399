"""Recordings and captions to training batches."""
