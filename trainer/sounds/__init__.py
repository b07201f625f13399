"""Sound heads: published encoders of sounds and of texts, joined by fitted layers."""
