"""Queries: what people search by, as unit vectors."""
