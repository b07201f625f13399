"""Words, as the word index cuts them out of texts and queries."""

from __future__ import annotations

import unicodedata
from typing import TypedDict

MAX_WORDS = 256
"""Words of a query that are looked up: more say nothing more."""


class Tokenizer(TypedDict):
    """LanceDB's settings of a full-text index."""

    base_tokenizer: str
    max_token_length: int | None
    lower_case: bool
    stem: bool
    remove_stop_words: bool
    ascii_folding: bool


TOKENIZER: Tokenizer = {
    "base_tokenizer": "icu/split",
    "max_token_length": None,
    "lower_case": True,
    "stem": False,
    "remove_stop_words": False,
    "ascii_folding": True,
}
"""For texts of any language: words by Unicode's rules, those of Chinese, Japanese and Thai by ICU's dictionaries, in
small letters and without the accents of Latin ones. Stems and stop words are those of one language: none are cut."""


def tokenize(text: str) -> list[str]:
    """Return the words of a text in its order, as the word index has them.

    Args:
        text: Any text; lone surrogates in it are left out.

    Returns:
        The words; none of a text without letters and digits.
    """
    return _cut(text, TOKENIZER)


def query_words(text: str) -> list[tuple[str, ...]]:
    """Return the words to look up for a query.

    The word index folds the accents of composed Latin letters alone: other words are looked up as they are, decomposed,
    and without their accents.

    Args:
        text: The query.

    Returns:
        The first 256 different words, each in the forms that it may have in the word index.
    """
    found: dict[str, tuple[str, ...]] = {}
    for word in _cut(unicodedata.normalize("NFC", text), {**TOKENIZER, "ascii_folding": False}):
        forms = (word,) if word.isascii() else _forms(word)
        found.setdefault(forms[0], forms)
        if len(found) == MAX_WORDS:
            break
    return list(found.values())


def _forms(word: str) -> tuple[str, ...]:
    decomposed = unicodedata.normalize("NFD", word)
    bare = "".join(character for character in decomposed if not unicodedata.combining(character))
    return tuple(dict.fromkeys(form for spelling in (word, bare, decomposed) for form in tokenize(spelling)))


def _cut(text: str, tokenizer: Tokenizer) -> list[str]:
    import lancedb

    return [token.text for token in lancedb.tokenize(text.encode("utf-8", "ignore").decode(), **tokenizer)]
