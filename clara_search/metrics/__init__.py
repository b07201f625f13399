"""Metrics of retrieval and classification with intervals and chance levels."""
