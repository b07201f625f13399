"""Texts to phones by rules, in many languages, with a guess at the language of a text that has none.

A rule says how a letter is pronounced between its neighbours: the one with the longest context applies. Words that
rules do not cover (numbers, names of letters, function words in a sentence) are listed whole.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clara_search.errors import FormatError
from clara_search.text.languages import is_specified, language_spellings

FORMAT_VERSION = 1

CONTEXTS: tuple[tuple[int, int], ...] = ((0, 0), (0, 1), (1, 1), (1, 2), (2, 2), (2, 3), (3, 3), (4, 4), (6, 6))
"""Letters before and after a letter that a rule may look at, the shortest context first."""

OUTSIDE = "_"
"""Stands for letters before and after a word."""

FLOOR, WORD_FLOOR = -9.0, -13.0
"""Log-probabilities of a trigram and of a word that a language does not list."""

_LONGEST = max(before for before, _ in CONTEXTS)
_APOSTROPHE = "\N{RIGHT SINGLE QUOTATION MARK}"
_WORD = re.compile(rf"[^\W_]+(?:['{_APOSTROPHE}][^\W_]+)*")
_MAX_LANGUAGES, _MIN_PROBABILITY = 3, 0.1
"""Languages that a text may be read in, and the least probability of each."""

_MAX_PHONES = 100
"""Most phones of a rule."""


class Reading(NamedTuple):
    """The phones of a text in one language, and the probability of that language."""

    phones: str
    probability: float


def context(word: str, position: int, before: int, after: int) -> str:
    """Return the letter at `position` of `word` with its neighbours, as rules name it: "before|letter after"."""
    padded = OUTSIDE * _LONGEST + word + OUTSIDE * _LONGEST
    at = position + _LONGEST
    return f"{padded[at - before : at]}|{padded[at : at + 1 + after]}"


def split_words(text: str) -> list[str]:
    """Return the words of a text without case and punctuation, letters in their compatible forms."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return [word.replace(_APOSTROPHE, "'") for word in _WORD.findall(folded)]


def language_features(words: Sequence[str]) -> list[str]:
    """Return the letters of `words` in threes, each word between boundaries, and those of more letters whole."""
    bounded = [f"{OUTSIDE}{word}{OUTSIDE}" for word in words]
    return [word[i : i + 3] for word in bounded for i in range(len(word) - 2)] + [x for x in bounded if len(x) > 3]


@dataclass(frozen=True)
class LanguageRules:
    """How a language is written.

    Attributes:
        rules: phones by the context of a letter.
        words: phones of whole words.
        features: log-probability of `language_features`, trigrams and words, by which the language is recognised.
    """

    rules: Mapping[str, str]
    words: Mapping[str, str] = field(default_factory=dict)
    features: Mapping[str, float] = field(default_factory=dict)

    def pronounce(self, word: str) -> str:
        """Return the phones of one word, as `split_words` returns it."""
        known = self.words.get(word)
        if known is not None:
            return known
        if not word.isalpha() and "'" not in word:
            return "".join(self.words.get(letter, "") for letter in word)
        return "".join(self._letter(word, position) for position in range(len(word)))

    def unknown_letters(self, word: str) -> int:
        """Return the number of letters in `word` that there is no rule for."""
        return 0 if word in self.words else sum(letter.isalpha() and f"|{letter}" not in self.rules for letter in word)

    def _letter(self, word: str, position: int) -> str:
        for before, after in reversed(CONTEXTS):
            phones = self.rules.get(context(word, position, before, after))
            if phones is not None:
                return phones
        return ""


class Pronouncer:
    """The pronunciation of texts in several languages.

    Args:
        languages: rules by language code.

    Attributes:
        rules: the same.
    """

    def __init__(self, languages: Mapping[str, LanguageRules]) -> None:
        self.rules = dict(languages)
        self.pronounce = lru_cache(maxsize=4096)(self._pronounce)

    @property
    def languages(self) -> list[str]:
        """Codes of the languages, sorted."""
        return sorted(self.rules)

    def _pronounce(self, text: str, language: str | None = None) -> tuple[Reading, ...]:
        """Return the readings of a text, the most probable first; their probabilities add up to 1.

        Args:
            text: any text; case and punctuation do not matter.
            language: a code or an English name; one without rules, or None, is guessed from the text.

        Returns:
            Nothing for a text most of whose letters no rule knows, as in a script of no language here.
        """
        words = split_words(text)
        letters = sum(map(len, words))
        readings = []
        for code, probability in self.guess(words, language):
            rules = self.rules[code]
            if 2 * sum(map(rules.unknown_letters, words)) < letters:
                readings.append(Reading("".join(rules.pronounce(word) for word in words), probability))
        return tuple(readings)

    def guess(self, words: Sequence[str], language: str | None = None) -> list[tuple[str, float]]:
        """Return the languages that `words` may be in with their probabilities, the most probable first."""
        if language is not None and is_specified(language):
            for code in language_spellings(language):
                if code in self.rules:
                    return [(code, 1.0)]
        codes, table, matrix = self._feature_matrix
        rows = [table[feature] for feature in language_features(words) if feature in table]
        # A feature counts half, as neighbouring ones share their letters.
        scores = matrix[rows].sum(axis=0) * 0.5 if rows else np.zeros(len(codes))
        scores = scores + FLOOR * np.array([sum(map(self.rules[code].unknown_letters, words)) for code in codes])
        odds = np.exp(scores - scores.max())
        odds /= odds.sum()
        best = [i for i in np.argsort(-odds)[:_MAX_LANGUAGES] if odds[i] >= min(_MIN_PROBABILITY, odds.max())]
        total = float(odds[best].sum())
        return [(codes[i], float(odds[i]) / total) for i in best]

    @cached_property
    def _feature_matrix(self) -> tuple[list[str], dict[str, int], npt.NDArray[np.float32]]:
        codes = self.languages
        names = sorted({name for rules in self.rules.values() for name in rules.features})
        table = {name: row for row, name in enumerate(names)}
        floors = np.array([FLOOR if len(name) <= 3 else WORD_FLOOR for name in names], dtype=np.float32)
        matrix = np.repeat(floors[:, None], len(codes), axis=1)
        for column, code in enumerate(codes):
            for name, value in self.rules[code].features.items():
                matrix[table[name], column] = value
        return codes, table, matrix

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: object) -> Pronouncer:
        """Return the rules in the JSON object of a file of `save`.

        Raises:
            FormatError: It is of another form; the message begins with `where`.
        """
        try:
            if values["format_version"] != FORMAT_VERSION:
                raise FormatError(
                    f"{where}: format version {values['format_version']}, this release reads {FORMAT_VERSION}"
                )
            return cls({code: _parse(entry) for code, entry in values["languages"].items()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FormatError(f"{where}: not a file of pronunciation rules ({error})") from error

    def save(self, path: Path) -> None:
        """Write the rules of all languages to a JSON file, the same for the same rules."""
        values = {
            "format_version": FORMAT_VERSION,
            "languages": {
                code: {
                    "rules": _lines(rules.rules),
                    "words": _lines(rules.words),
                    "features": _lines({name: str(round(value * 10)) for name, value in rules.features.items()}),
                }
                for code, rules in sorted(self.rules.items())
            },
        }
        path.write_text(json.dumps(values, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


def _lines(table: Mapping[str, str]) -> str:
    return "\n".join(f"{key}\t{value}" for key, value in sorted(table.items()))


def _parse(entry: Mapping[str, Any]) -> LanguageRules:
    """Return the rules of a language. Raises ValueError for phones that are no pronunciation of a letter or word."""
    rules, words, numbers = (
        dict(line.split("\t", 1) for line in entry[name].split("\n") if line) for name in ("rules", "words", "features")
    )
    if max(map(len, (*rules.values(), *words.values())), default=0) > _MAX_PHONES:
        raise ValueError(f"a letter or a word of more than {_MAX_PHONES} phones")
    return LanguageRules(rules, words, {name: int(value) / 10 for name, value in numbers.items()})
