"""Hybrid search: rows ranked by their vectors and by the words of their texts at once."""
