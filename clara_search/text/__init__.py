"""Tokenizer and languages."""
