"""Texts that say the same, written the same."""

from __future__ import annotations

import re
import unicodedata


def normalize_text(text: str) -> str:
    """Return `text` without case, punctuation, compatibility forms of the same letter, or double spaces."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(re.sub(r"[\W_]+", " ", folded).split()) or folded.strip()
