"""How much a query and the text of a row have in common, letter by letter: evidence beside the cosine."""

from __future__ import annotations

from functools import lru_cache

from clara_search.text.normalize import normalize_text

_LETTERS = 3
_MAX_CHARACTERS = 2000


def text_agreement(query: str, text: str) -> float:
    """Return the agreement of two texts: the Dice coefficient of their letter trigrams within words, from 0 to 1."""
    first, second = (_trigrams(some[:_MAX_CHARACTERS]) for some in (query, text))
    total = len(first) + len(second)
    return 2 * len(first & second) / total if total else 0.0


@lru_cache(maxsize=4096)
def _trigrams(text: str) -> frozenset[str]:
    words = (f" {word} " for word in normalize_text(text).split())
    return frozenset(word[start : start + _LETTERS] for word in words for start in range(len(word) - _LETTERS + 1))
