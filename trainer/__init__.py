"""Contrastive pretraining of CLARA; runs from a checkout as `python -m trainer`."""
