"""Grapheme-to-phoneme conversion with espeak-ng: the targets of the phone losses.

Phones are letters of the IPA without stress, length and other marks, the same for all languages. A text that espeak-ng
cannot pronounce has no phones and is left out of these losses.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from clara_search.datasets.example import Example
from clara_search.models.clara.phone_head import PHONES, known_phone_bigrams
from clara_search.models.clara.text_phones import phone_indices
from trainer.phones.espeak import SpeechError, pronounce

log = logging.getLogger(__name__)

_FOLDED = str.maketrans("ɭɬεɱʂʐɨʋʏʉɵʝʈæ", "llɛmʃʒivyuøjta", "ʔ")
"""Maps rarer letters to the nearest of `PHONES`, and drops the glottal stop."""

_BOPOMOFO = dict(
    zip(
        "ㄅㄆㄇㄈㄉㄊㄋㄌㄍㄎㄏㄐㄑㄒㄓㄔㄕㄖㄗㄘㄙㄚㄛㄜㄝㄞㄟㄠㄡㄢㄣㄤㄥㄦㄧㄨㄩ",
        "b p m f d t n l ɡ k x dʑ tɕ ɕ dʒ tʃ ʃ ʒ dz ts s a o ə ɛ aɪ eɪ aʊ oʊ an ən ɑŋ əŋ əɹ i u y".split(),
        strict=True,
    )
)

_BATCH = 256

_LANGUAGE_SWITCH = re.compile(r"\([^)]*\)")


def text_to_phones(text: str, language: str, separate_words: bool = False) -> str:
    """Return the phones of `text`, a letter of `PHONES` each; "" if espeak-ng does not know `language`.

    With `separate_words`, there is a space where espeak-ng starts a word. Chinese must be written in Bopomofo, whose
    letters stand for phones.
    """
    if language == "zh":
        return "".join(_BOPOMOFO.get(letter, "") for letter in text)
    try:
        pronunciation = pronounce(text, language.lower())
    except SpeechError:
        return ""
    letters = unicodedata.normalize("NFD", _LANGUAGE_SWITCH.sub(" ", pronunciation))
    parts = "".join(x for x in letters if x.isspace() or unicodedata.category(x) in ("Ll", "Lo")).split()
    return (" " if separate_words else "").join(parts).translate(_FOLDED)


def words_to_phones(text: str, language: str) -> list[str]:
    """Return the phones of each word of `text`: in context, or word by word if espeak-ng merges or splits words."""
    in_context = text_to_phones(text, language, separate_words=True).split(" ")
    words = text.split()
    return in_context if len(in_context) == len(words) else [text_to_phones(word, language) for word in words]


class PhoneTargets:
    """The phones of transcripts, as indices counted from `BLANK` + 1.

    Args:
        examples: whose transcripts are pronounced.
        inventory: the phones, a letter each.
    """

    def __init__(self, examples: Iterable[Example], inventory: str = PHONES) -> None:
        keys = {_key(example) for example in examples} - {("", "")}
        self._phones = {
            (text, language): phone_indices(text_to_phones(text, language), inventory)
            for text, language in sorted(keys, key=lambda key: key[::-1])  # a change of language takes time
        }
        missing = Counter(language for (_, language), phones in self._phones.items() if not phones)
        for language, count in sorted(missing.items()):
            log.warning(
                "%d texts in %r have no phones and are left out of phone losses: espeak-ng may not know the language",
                count,
                language,
            )

    def of(self, example: Example) -> Sequence[int]:
        """Return the phones of `example`; empty if its text is no transcript."""
        return self._phones.get(_key(example), [])

    def all(self) -> list[Sequence[int]]:
        """Return the phones of every text that has any."""
        return [phones for phones in self._phones.values() if phones]


def principal_bigrams(texts: Sequence[Sequence[int]], phones: int, dim: int) -> Tensor:
    """Return the principal components of the phone bigrams of `texts`, weighted by inverse document frequency.

    As the initial value of a bigram projection they separate texts before any training.

    Args:
        texts: phones by index.
        phones: size of the inventory.
        dim: number of components; rows beyond the rank of `texts` are 0.

    Returns:
        (dim, phones * phones + phones).
    """
    parts = []
    for start in range(0, len(texts), _BATCH):
        batch = [torch.tensor(text) for text in texts[start : start + _BATCH]]
        lengths = torch.tensor([len(text) for text in batch])
        parts.append(known_phone_bigrams(pad_sequence(batch, batch_first=True), lengths, phones))
    counts = torch.cat(parts)
    idf = torch.log(1.0 / ((counts > 0.3).float().mean(dim=0) + 1e-3))
    _, _, directions = torch.pca_lowrank(F.normalize(counts * idf, dim=1), min(dim, *counts.shape), center=False)
    return F.pad(directions.T * idf, (0, 0, 0, dim - directions.shape[1]))


def is_transcript(example: Example) -> bool:
    """Return whether the text of `example` is its transcript, not the name of a sound or a translation."""
    return example.kind == "speech" and bool(example.language) and example.text_language == example.language


def _key(example: Example) -> tuple[str, str]:
    """Return text and language of a transcript; two empty strings for another text."""
    return (example.text, example.language) if is_transcript(example) else ("", "")
