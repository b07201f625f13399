"""Corpora into tables: sources, pipeline, ledger."""
