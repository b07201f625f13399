"""Sound heads: published encoders of sounds and of texts, and what is fitted between them."""
