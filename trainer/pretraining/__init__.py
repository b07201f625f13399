"""Contrastive pretraining of CLARA."""
