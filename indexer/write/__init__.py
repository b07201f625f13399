"""Vectors to committed rows."""
