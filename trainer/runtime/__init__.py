"""Parts of any run: its folder, checkpoints, tracking, Lightning."""
