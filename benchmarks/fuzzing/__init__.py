"""Fuzzing: small good files, changed at random, and given to the readers of foreign files."""
