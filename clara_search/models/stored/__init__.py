"""Weights as files store them, checked before they take memory."""
