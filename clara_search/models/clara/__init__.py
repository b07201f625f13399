"""CLARA: towers, model folders, the encoder, conversion of released checkpoints."""
