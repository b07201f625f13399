"""Which token of a text says which of its phones: what a text tower that tells phones is taught."""

from __future__ import annotations

import re
from collections.abc import Sequence

from clara_search.models.clara.phone_head import BLANK

_WORD = re.compile(r"\S+")


def phone_slots(
    text: str, said: Sequence[Sequence[int]], spans: Sequence[tuple[int, int]], per_token: int
) -> list[int] | None:
    """Return the phones of each token, `per_token` slots for each, blanks behind them; None where words do not match.

    `said` holds the phones of each word of `text`, as indices; `spans` where its tokens begin and end. The phones of a
    word are spread evenly over its letters. What finds no room in its token goes to the next of the word, or is lost.
    """
    words = [match.span() for match in _WORD.finditer(text)]
    if len(words) != len(said):
        return None
    slots: list[int] = []
    word, told = 0, 0
    for _, end in spans:
        while word + 1 < len(words) and words[word + 1][0] < end:
            word, told = word + 1, 0
        begun, ended = words[word]
        # Rounded up, so that the last letter has the last phone, and a letter of its own has one as early as it may.
        due = -(-len(said[word]) * (min(end, ended) - begun) // (ended - begun))
        now = list(said[word][told : min(due, told + per_token)])
        told += len(now)
        slots += _apart(now, per_token)
    return slots


def _apart(phones: Sequence[int], room: int) -> list[int]:
    """Return `phones` with a blank between equal neighbours, where there is room, and blanks behind."""
    found: list[int] = []
    for at, phone in enumerate(phones):
        left = room - len(found) - (len(phones) - at)
        if found and found[-1] == phone and left > 0:
            found.append(BLANK)
        found.append(phone)
    return found + [BLANK] * (room - len(found))
