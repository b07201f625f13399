"""Corpora to tables: recordings and texts are decoded, cut, embedded and written, once each."""
