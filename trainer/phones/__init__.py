"""Phones: pronunciation of texts."""
