"""The demo: a small real corpus, indexed, searched and scored."""
