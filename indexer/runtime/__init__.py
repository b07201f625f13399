"""Threads, timers and memory of a run."""
