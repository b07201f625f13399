"""Classification of recordings by prompts or by a trained head."""
