"""Alignment of the tokens of a text with its phones: the targets of a phone head's token classifier."""

from __future__ import annotations

import re
from collections.abc import Sequence

from clara_search.models.clara.phone_head import BLANK

_WORD = re.compile(r"\S+")


def phone_slots(
    text: str, phones: Sequence[Sequence[int]], spans: Sequence[tuple[int, int]], per_token: int
) -> list[int] | None:
    """Return the phones of each token, in `per_token` slots filled up with blanks.

    The phones of a word are spread evenly over its letters. Phones that do not fit their token go to the next one of
    the word, or are dropped.

    Args:
        text: of words separated by white space.
        phones: of each word, as indices.
        spans: first and last character (exclusive) of each token.
        per_token: slots of a token.

    Returns:
        `per_token` * len(`spans`) indices; None if `text` and `phones` have different numbers of words.
    """
    words = [match.span() for match in _WORD.finditer(text)]
    if len(words) != len(phones):
        return None
    slots: list[int] = []
    word, used = 0, 0
    for _, end in spans:
        while word + 1 < len(words) and words[word + 1][0] < end:
            word, used = word + 1, 0
        word_start, word_end = words[word]
        # Rounded up: the last letter gets the last phone, and each letter gets its phones as early as possible.
        due = -(-len(phones[word]) * (min(end, word_end) - word_start) // (word_end - word_start))
        token_phones = list(phones[word][used : min(due, used + per_token)])
        used += len(token_phones)
        slots += _separate(token_phones, per_token)
    return slots


def _separate(phones: Sequence[int], length: int) -> list[int]:
    """Return `phones` with blanks between equal neighbours as far as they fit, filled up with blanks to `length`."""
    slots: list[int] = []
    for number, phone in enumerate(phones):
        spare = length - len(slots) - (len(phones) - number)
        if slots and slots[-1] == phone and spare > 0:
            slots.append(BLANK)
        slots.append(phone)
    return slots + [BLANK] * (length - len(slots))
