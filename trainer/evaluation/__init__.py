"""Scores of a trained model, its card and plots."""
