"""The split into train, valid and test by normalised text, so that no sentence is in two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Literal

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
