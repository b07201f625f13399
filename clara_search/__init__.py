"""Find moments in a pile of sound by text, by sound and by prompt."""
