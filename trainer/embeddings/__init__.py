"""Embeddings of labelled clips, cached."""
