"""Datasets as declarations, and one reader a layout."""
