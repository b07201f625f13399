"""Paths, URLs and files: opened, written whole, brought to the disk."""
