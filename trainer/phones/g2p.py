"""What a recording or a text says, phone by phone: what both towers are asked for.

Phones are letters of the IPA without stress, length and other marks, the same for all languages, as espeak-ng
pronounces a text. What a voice of espeak-ng cannot read has none and is left out of that loss.
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
from clara_search.models.clara.phone_head import BLANK, PHONES
from trainer.phones.bigrams import known_phone_bigrams
from trainer.phones.espeak import SpeechError, pronounce

log = logging.getLogger(__name__)

_FOLDED = str.maketrans("ɭɬεɱʂʐɨʋʏʉɵʝʈæ", "llɛmʃʒivyuøjta", "ʔ")
"""Rarer letters, into the nearest of `PHONES`; a glottal stop is no phone."""

_BOPOMOFO = dict(
    zip(
        "ㄅㄆㄇㄈㄉㄊㄋㄌㄍㄎㄏㄐㄑㄒㄓㄔㄕㄖㄗㄘㄙㄚㄛㄜㄝㄞㄟㄠㄡㄢㄣㄤㄥㄦㄧㄨㄩ",
        "b p m f d t n l ɡ k x dʑ tɕ ɕ dʒ tʃ ʃ ʒ dz ts s a o ə ɛ aɪ eɪ aʊ oʊ an ən ɑŋ əŋ əɹ i u y".split(),
        strict=True,
    )
)

_LANGUAGE_SWITCH = re.compile(r"\([^)]*\)")


def text_to_phones(text: str, language: str, apart: bool = False) -> str:
    """Return the phones of `text`, a letter of `PHONES` each; "" where espeak-ng does not know `language`.

    With `apart` there is a space where espeak-ng begins a new word. Chinese is taken to be written in Bopomofo, whose
    letters are phones already.
    """
    if language == "zh":
        return "".join(_BOPOMOFO.get(letter, "") for letter in text)
    try:
        written = pronounce(text, language.lower())
    except SpeechError:
        return ""
    letters = unicodedata.normalize("NFD", _LANGUAGE_SWITCH.sub(" ", written))
    parts = "".join(x for x in letters if x.isspace() or unicodedata.category(x) in ("Ll", "Lo")).split()
    return (" " if apart else "").join(parts).translate(_FOLDED)


def words_to_phones(text: str, language: str) -> list[str]:
    """Return the phones of each word of `text`, in its context where espeak-ng keeps the words apart."""
    together = text_to_phones(text, language, apart=True).split(" ")
    written = text.split()
    return together if len(together) == len(written) else [text_to_phones(word, language) for word in written]


def phone_indices(said: str, inventory: str) -> list[int]:
    """Return where each phone of `said` stands in `inventory`, counted from 1; what is not in it is dropped."""
    return [at + BLANK + 1 for phone in said if (at := inventory.find(phone)) >= 0]


class PhoneTargets:
    """The phones of recordings as indices above `BLANK` into `inventory`."""

    def __init__(self, examples: Iterable[Example], inventory: str = PHONES) -> None:
        keys = sorted({_key(example) for example in examples} - {("", "")})
        self._said = {
            (text, language): phone_indices(text_to_phones(text, language), inventory) for text, language in keys
        }
        silent = Counter(language for (_, language), said in self._said.items() if not said)
        for language, count in sorted(silent.items()):
            log.warning(
                "%d texts in %r have no phones and no part in that loss: espeak-ng may not read it", count, language
            )

    def of(self, example: Example) -> Sequence[int]:
        """Return the phones of `example`; none where nobody speaks or the text is not what is said."""
        return self._said.get(_key(example), [])

    def all(self) -> list[Sequence[int]]:
        """Return the phones of every text that has some."""
        return [said for said in self._said.values() if said]


def principal_bigrams(texts: Sequence[Sequence[int]], phones: int, dim: int) -> Tensor:
    """Return (dim, phones * phones + phones): the directions in which the pairs of `texts` differ most.

    Pairs count by how few texts have them (inverse document frequency). A matrix of pairs to vectors that begins here
    tells texts apart before it is trained.
    """
    parts = []
    for at in range(0, len(texts), 256):
        part = [torch.tensor(text) for text in texts[at : at + 256]]
        parts.append(
            known_phone_bigrams(pad_sequence(part, batch_first=True), torch.tensor([len(x) for x in part]), phones)
        )
    counts = torch.cat(parts)
    rarity = torch.log(1.0 / ((counts > 0.3).float().mean(dim=0) + 1e-3))
    _, _, directions = torch.pca_lowrank(F.normalize(counts * rarity, dim=1), min(dim, *counts.shape), center=False)
    return F.pad(directions.T * rarity, (0, 0, 0, dim - directions.shape[1]))


def is_transcript(example: Example) -> bool:
    """Tell whether the text of `example` is what is said in it, not the name of a sound or a translation."""
    return example.kind == "speech" and bool(example.language) and example.text_language == example.language


def _key(example: Example) -> tuple[str, str]:
    """Text and language of a transcript; two empty strings for another text."""
    return (example.text, example.language) if is_transcript(example) else ("", "")
