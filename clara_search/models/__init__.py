"""The towers, their layers and their folder format."""
