"""What a recording says, phone by phone: the targets of an auxiliary loss on the frames of the audio tower.

Phones are letters of the IPA without stress, length and other marks, the same for all languages, as espeak-ng
pronounces a text. What a voice of espeak-ng cannot read has none and is left out of that loss.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from clara_search.datasets.spec import Example
from trainer.loss import BLANK
from trainer.speak import SpeechError, pronounce

log = logging.getLogger(__name__)

_LANGUAGE_SWITCH = re.compile(r"\([^)]*\)")


def phones(text: str, language: str) -> str:
    """Return the phones of `text`, one character each; "" where espeak-ng does not know `language`.

    Chinese is taken to be written in Bopomofo, whose letters are phones already.
    """
    if language == "zh":
        written = text
    else:
        try:
            written = pronounce(text, language.lower())
        except SpeechError:
            return ""
    letters = unicodedata.normalize("NFD", _LANGUAGE_SWITCH.sub(" ", written))
    return "".join(letter for letter in letters if unicodedata.category(letter) in ("Ll", "Lo"))


class Phones:
    """The phones of recordings as indices above `BLANK`; what is rarer than `at_least` times is dropped."""

    def __init__(self, examples: Iterable[Example], at_least: int = 20) -> None:
        self._said: dict[tuple[str, str], str] = {}
        for text, language in sorted({_key(example) for example in examples} - {("", "")}):
            self._said[text, language] = phones(text, language)
        counts = Counter("".join(self._said.values()))
        kept = sorted(phone for phone, count in counts.items() if count >= at_least)
        self._index = {phone: index for index, phone in enumerate(kept, start=BLANK + 1)}

    def __len__(self) -> int:
        """Return how many indices there are, `BLANK` among them."""
        return len(self._index) + 1

    def of(self, example: Example) -> Sequence[int]:
        """Return the phones of `example`; none where nobody speaks or the text is not what is said."""
        said = self._said.get(_key(example), "")
        return [self._index[phone] for phone in said if phone in self._index]


def _key(example: Example) -> tuple[str, str]:
    """Text and language of a transcript; two empty strings for the name of a sound or a translation."""
    if example.kind != "speech" or not example.language or example.text_language != example.language:
        return "", ""
    return example.text, example.language
