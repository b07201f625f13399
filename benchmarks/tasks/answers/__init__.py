"""How far answers can be trusted: queries with and without a match, and places in long recordings."""
