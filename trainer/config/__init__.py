"""Recipes: a training run as a file."""
