"""Hits for people: their sound, tables and players, files for other programs."""
