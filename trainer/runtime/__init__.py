"""What every run needs: its folder, checkpoints, tracking, Lightning."""
