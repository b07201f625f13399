"""Models: encoders, their registry, the CLARA towers, CLAP models of `transformers`, the hub."""
