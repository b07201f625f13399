"""Texts with their phones, as many as wanted: words drawn by how often they are written, pronounced by espeak-ng.

What a text sounds like can be learnt without a recording. The words come from `wordfreq` (lists of some forty
languages, CC-BY-SA-4.0), put together by chance: for the phones of neighbours that is enough.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from clara_search.errors import ConfigError, FormatError, MissingDependency
from trainer.phones.g2p import text_to_phones

SHARES: Mapping[str, float] = {
    "en": 0.36,
    "cs": 0.12,
    **dict.fromkeys(("es", "fr", "it", "ru"), 0.08),
    "de": 0.06,
    **dict.fromkeys(("ca", "da", "el", "fi", "hu", "lt", "nb", "nl", "pl", "pt", "ro", "sl", "sv", "uk"), 0.01),
}
"""How often a text is in which language."""

WORDS = 40_000
"""So many of the most frequent words of a language are drawn from."""

_FLATTENING = 0.6
"""Words are drawn by this power of their frequency, so that rare ones are read too."""

_LONGEST = 10


@dataclass(frozen=True)
class Pronunciation:
    """A text, its language and its phones: letters of the IPA, with a space between words."""

    text: str
    language: str
    phones: str


def sample_pronunciations(count: int, seed: int = 0, shares: Mapping[str, float] = SHARES) -> Iterator[Pronunciation]:
    """Yield `count` readings of one to twelve words, written in several ways, the same for the same seed.

    Raises ClaraError without `wordfreq`, SpeechError without espeak-ng.
    """
    try:
        from wordfreq import get_frequency_dict
    except ImportError as error:
        raise MissingDependency("drawing texts needs wordfreq: pip install -e '.[train]'") from error
    rng = np.random.default_rng(seed)
    for language, share in shares.items():
        try:
            frequencies = get_frequency_dict(language)
        except LookupError as error:
            raise ConfigError(f"wordfreq has no words of the language {language!r}") from error
        words = [word for word in sorted(frequencies, key=lambda w: (-frequencies[w], w)) if _is_word(word)][:WORDS]
        weights = np.array([frequencies[word] for word in words]) ** _FLATTENING
        bounds = np.cumsum(weights) / weights.sum()
        for _ in range(round(count * share / sum(shares.values()))):
            length = min(1 + int(rng.geometric(0.25)) if rng.random() < 0.8 else 1, _LONGEST)
            drawn = [words[index] for index in np.searchsorted(bounds, rng.random(length), side="right")]
            text = _written(drawn, rng)
            yield Pronunciation(text, language, " ".join(_pronounced(word, language) for word in drawn))


@lru_cache(maxsize=WORDS)
def _pronounced(word: str, language: str) -> str:
    return text_to_phones(word, language)


def _is_word(word: str) -> bool:
    return all(letter.isalpha() or letter in "'’-" for letter in word) and any(map(str.isalpha, word))


def _written(words: Sequence[str], rng: np.random.Generator) -> str:
    """Return `words` as a sentence, as a heading, or as they are."""
    style = rng.random()
    if style < 0.35:
        return " ".join(words)
    if style < 0.4:
        return " ".join(words).upper()
    parts = [word.capitalize() if rng.random() < 0.08 else word for word in words]
    parts = [part + "," if rng.random() < 0.1 else part for part in parts[:-1]] + parts[-1:]
    sentence = " ".join(parts)
    return sentence[0].upper() + sentence[1:] + ("." if rng.random() < 0.6 else "!?"[rng.integers(2)])


def load_pronunciations(path: Path) -> list[Pronunciation]:
    """Read what `readings_command` wrote. Raises FormatError, naming the line, for what it did not write."""
    try:
        with path.open(encoding="utf-8") as lines:
            return [Pronunciation(**json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError) as error:
        raise FormatError(f"{path}: not a file of readings ({error})") from error
