"""CLARA: towers, checkpoints, encoder."""
