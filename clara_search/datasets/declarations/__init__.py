"""Declarations of labelled collections as they are published, read by `clara_search.datasets.layouts`."""
