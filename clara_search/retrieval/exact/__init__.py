"""Exact search: every row compared with a query."""
