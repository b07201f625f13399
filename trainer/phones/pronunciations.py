"""Random texts with their phones: words sampled by frequency, pronounced by espeak-ng.

Pronunciation can be learned without recordings. The words come from `wordfreq` (lists of some forty languages,
CC-BY-SA-4.0) and are combined at random: that is enough for the phones of neighbouring words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clara_search.errors import ConfigError, FormatError, MissingDependency
from clara_search.files.json_reader import parse_object
from trainer.phones.g2p import text_to_phones

LANGUAGE_WEIGHTS: Mapping[str, float] = {
    "en": 0.36,
    "cs": 0.12,
    **dict.fromkeys(("es", "fr", "it", "ru"), 0.08),
    "de": 0.06,
    **dict.fromkeys(("ca", "da", "el", "fi", "hu", "lt", "nb", "nl", "pl", "pt", "ro", "sl", "sv", "uk"), 0.01),
}
"""Share of each language among the texts."""

VOCABULARY_SIZE = 40_000
"""Most frequent words of a language that are sampled from."""

_FREQUENCY_POWER = 0.6
"""Words are sampled by this power of their frequency, so that rare ones occur too."""

_MAX_WORDS = 10
"""Most words in a text."""


@dataclass(frozen=True)
class Pronunciation:
    """A text, its language and its phones: letters of the IPA, with a space between words."""

    text: str
    language: str
    phones: str


def sample_pronunciations(
    count: int, seed: int = 0, weights: Mapping[str, float] = LANGUAGE_WEIGHTS
) -> Iterator[Pronunciation]:
    """Yield random texts of one to ten words in several spellings, the same for the same seed.

    Args:
        count: number of texts.
        seed: of words and spelling.
        weights: share of each language.

    Raises:
        ConfigError: `wordfreq` does not know a language.
        MissingDependency: `wordfreq` is not installed.
        SpeechError: espeak-ng is missing.
    """
    rng = np.random.default_rng(seed)
    for language, weight in weights.items():
        vocabulary, bounds = word_lists(language)
        for _ in range(round(count * weight / sum(weights.values()))):
            length = min(1 + int(rng.geometric(0.25)) if rng.random() < 0.8 else 1, _MAX_WORDS)
            words = [vocabulary[index] for index in np.searchsorted(bounds, rng.random(length), side="right")]
            text = _spell(words, rng)
            yield Pronunciation(text, language, " ".join(_word_phones(word, language) for word in words))


def word_lists(language: str, size: int = VOCABULARY_SIZE) -> tuple[list[str], npt.NDArray[np.float64]]:
    """Return the most frequent words of a language, and the upper bounds in [0, 1] by which they are sampled.

    Raises:
        ConfigError: `wordfreq` does not know the language.
        MissingDependency: `wordfreq` is not installed.
    """
    try:
        from wordfreq import get_frequency_dict
    except ImportError as error:
        raise MissingDependency("sampling texts needs wordfreq: pip install -e '.[train]'") from error
    try:
        frequencies = get_frequency_dict(language)
    except LookupError as error:
        raise ConfigError(f"wordfreq has no words of the language {language!r}") from error
    by_frequency = sorted(frequencies, key=lambda word: (-frequencies[word], word))
    vocabulary = [word for word in by_frequency if _is_word(word)][:size]
    odds = np.array([frequencies[word] for word in vocabulary]) ** _FREQUENCY_POWER
    return vocabulary, np.cumsum(odds) / odds.sum()


@lru_cache(maxsize=VOCABULARY_SIZE)
def _word_phones(word: str, language: str) -> str:
    return text_to_phones(word, language)


def _is_word(word: str) -> bool:
    return all(letter.isalpha() or letter in "'’-" for letter in word) and any(map(str.isalpha, word))


def _spell(words: Sequence[str], rng: np.random.Generator) -> str:
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
    """Read the JSON lines of `make-pronunciations`. Raises FormatError for a file of another form."""
    try:
        with path.open(encoding="utf-8") as lines:
            return [Pronunciation(**parse_object(line, path)) for line in lines]
    except (OSError, ValueError, TypeError, FormatError) as error:
        raise FormatError(f"{path}: not a file of pronunciations ({error})") from error
