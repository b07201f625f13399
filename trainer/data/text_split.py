"""The split into train, valid and test by normalised text, so that no sentence is in two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from typing import Literal

from clara_search.datasets.example import Example
from clara_search.text.normalize import normalize_text

Split = Literal["train", "valid", "test"]

VALID_PERCENT = 5
TEST_PERCENT = 10


def text_split(text: str, train_texts: Collection[str] = ()) -> Split:
    """Return the split of `text` by the hash of `normalize_text(text)`: 5 % of all texts are "valid", 10 % "test".

    The bundled model was trained on "train" alone, so any text for which this returns "test" is new to it, wherever
    the recording comes from. `train_texts` (normalised) are "train" whatever their hash: for the bundled model, the
    words of its digit suite, which a synthesiser spoke to it.
    """
    if normalize_text(text) in train_texts:
        return "train"
    bucket = int.from_bytes(hashlib.sha256(normalize_text(text).encode()).digest()[:8], "big") % 100
    if bucket < TEST_PERCENT:
        return "test"
    return "valid" if bucket < TEST_PERCENT + VALID_PERCENT else "train"


def text_splits(captions: Sequence[Collection[str]], train_texts: Collection[str] = ()) -> list[Split]:
    """Return the split of recordings with one or several captions, so that no caption is in two splits.

    Recordings that share a caption, directly or through others, are split by `text_split` of the first of all their
    captions in alphabetical order.

    Args:
        captions: Of each recording its captions, normalised, at least one.
        train_texts: As in `text_split`.
    """
    shared = _SharedTexts()
    for own in captions:
        if len(own) > 1:
            shared.join(sorted(own))
    return [text_split(shared.first(min(own)), train_texts) for own in captions]


def texts_of(example: Example) -> set[str]:
    """Return the captions of a recording, normalised."""
    return {normalize_text(text) for text in (example.text, *example.alternatives)}


class _SharedTexts:
    """Texts that belong together because a recording has them both, and what belongs to these."""

    def __init__(self) -> None:
        self._parents = dict[str, str]()

    def first(self, text: str) -> str:
        """Return the first, in alphabetical order, of all texts that belong to `text`."""
        while (parent := self._parents.get(text, text)) != text:
            self._parents[text] = self._parents.get(parent, parent)  # shortens the way for the next one
            text = parent
        return text

    def join(self, texts: Sequence[str]) -> None:
        """Note that texts belong together."""
        first = min(map(self.first, texts))
        for text in texts:
            self._parents[self.first(text)] = first
