"""Pronunciation rules learned from espeak-ng: which phones a letter of a language stands for between its neighbours.

The letters of each word are aligned with its phones by expectation maximisation. Then rules are collected from short
contexts to long ones, each where the shorter ones are wrong. Words come from `wordfreq` (CC-BY-SA-4.0).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from clara_search.errors import ConfigError
from clara_search.text.pronunciation import CONTEXTS, LanguageRules, context, language_features, split_words
from trainer.phones.g2p import text_to_phones, words_to_phones
from trainer.phones.pronunciations import word_lists

LANGUAGES: tuple[str, ...] = (
    *("bg", "ca", "cs", "da", "de", "el", "en", "es", "fi", "fr", "hu", "id", "is", "it", "lt", "lv", "mk"),
    *("nb", "nl", "pl", "pt", "ro", "ru", "sh", "sk", "sl", "sv", "tr", "uk", "vi"),
)
"""Languages that both `wordfreq` and espeak-ng know, whose letters stand for sounds."""

_VOICES = {"sh": "hr"}
"""espeak-ng's names of languages that `wordfreq` calls otherwise."""

DEFAULT_WORDS = 30_000
"""Most frequent words of a language that rules are learned from."""

_EM_WORDS, _EM_ROUNDS = 4000, 4
_MAX_PHONES = 4
"""Most phones of a letter."""
_PRIOR = (2.5, 1.0, 3.0, 6.0, 9.0)
"""Cost of a letter with so many phones before anything is known."""
_UNSEEN = (7.0, 7.0, 8.5, 10.0, 12.0)
"""Cost of phones that a letter was not seen with, by their number."""
_MIN_SUPPORT = (1, 1, 2, 2, 2, 2, 2, 1, 1)
"""Words that a rule must hold for, by the number of its context in `CONTEXTS`."""
_FIRST_WHOLE_WORD = 7
"""Context from which on rules are exceptions: they hold without exception or are left out."""

_FUNCTION_WORDS, _CONTEXT_SAMPLES, _CONTEXT_WORDS = 150, 5, 6
_COMMON_WORDS = 2000
_NUMBERS = 101
_MAX_TRIGRAMS, _MAX_WORDS = 3000, 2000

Aligned = list[tuple[str, list[str]]]
"""Words, each with the phones of its letters."""


class LearnedRules(NamedTuple):
    """Rules of a language and how they do on words that they were not learned from.

    Attributes:
        rules: learned from all words.
        held_out_words: number of words held out for the two rates.
        phone_error_rate: edits per phone.
        word_accuracy: share of words without an error.
    """

    rules: LanguageRules
    held_out_words: int
    phone_error_rate: float
    word_accuracy: float


def learn_language(language: str, num_words: int = DEFAULT_WORDS, seed: int = 0) -> LearnedRules:
    """Learn how a language is pronounced from its most frequent words.

    Raises ConfigError if `wordfreq` or espeak-ng does not know the language.
    """
    voice = _VOICES.get(language, language)
    vocabulary, bounds = word_lists(language, num_words)
    frequencies = np.diff(bounds, prepend=0.0)
    words = {part: None for word in vocabulary for part in split_words(word)}
    pronunciations = {word: phones for word in words if (phones := text_to_phones(word, voice))}
    aligned = align_words(pronunciations)
    if not aligned:
        raise ConfigError(f"espeak-ng does not pronounce the language {language!r}")
    held_out = [pair for row, pair in enumerate(aligned) if row % 20 == 7 and row > 2000]
    kept = [pair for row, pair in enumerate(aligned) if not (row % 20 == 7 and row > 2000)]
    error_rate, accuracy = _score(LanguageRules(collect_rules(kept)), held_out)
    rules = LanguageRules(
        collect_rules(aligned), _whole_words(vocabulary, voice, seed), _features(vocabulary, frequencies)
    )
    return LearnedRules(rules, len(held_out), error_rate, accuracy)


def align_words(pronunciations: Mapping[str, str]) -> Aligned:
    """Return words with the phones of each of their letters; words of too many phones are left out."""
    pairs = [(word, phones) for word, phones in pronunciations.items() if len(phones) <= _MAX_PHONES * len(word)]
    costs: dict[str, dict[str, float]] = {}

    def cost(letter: str, phones: str) -> float:
        return costs[letter].get(phones, _UNSEEN[len(phones)]) if letter in costs else _PRIOR[len(phones)]

    for _ in range(_EM_ROUNDS):
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for word, phones in pairs[:_EM_WORDS]:
            for letter, part in zip(word, _align(word, phones, cost), strict=True):
                counts[letter][part] += 1
        costs = {
            letter: {part: -math.log(n / (sum(parts.values()) + 1.0)) for part, n in parts.items()}
            for letter, parts in counts.items()
        }
    return [(word, _align(word, phones, cost)) for word, phones in pairs]


def _align(word: str, phones: str, cost: Callable[[str, str], float]) -> list[str]:
    """Return the cheapest division of `phones` among the letters of `word`."""
    count = len(phones)
    best, choices = [0.0] + [math.inf] * count, list[list[int]]()
    for row, letter in enumerate(word):
        following, chosen = [math.inf] * (count + 1), [0] * (count + 1)
        least = max(0, count - _MAX_PHONES * (len(word) - row))
        for start in range(least, count + 1):
            if best[start] == math.inf:
                continue
            for size in range(min(_MAX_PHONES, count - start) + 1):
                total = best[start] + cost(letter, phones[start : start + size])
                if total < following[start + size]:
                    following[start + size], chosen[start + size] = total, size
        best = following
        choices.append(chosen)
    parts, end = list[str](), count
    for chosen in reversed(choices):
        parts.append(phones[end - chosen[end] : end])
        end -= chosen[end]
    return parts[::-1]


def collect_rules(aligned: Aligned) -> dict[str, str]:
    """Return phones by context, such that the longest context that applies is right for nearly all of the letters."""
    letters = [(word, i, part) for word, parts in aligned for i, part in enumerate(parts)]
    predicted: list[str | None] = [None] * len(letters)
    rules: dict[str, str] = {}
    for number, (before, after) in enumerate(CONTEXTS):
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        keys = [context(word, i, before, after) for word, i, _ in letters]
        for key, (_, _, part) in zip(keys, letters, strict=True):
            counts[key][part] += 1
        wrong = {key for key, guess, (_, _, part) in zip(keys, predicted, letters, strict=True) if guess != part}
        added = {}
        for key in wrong:
            part, support = counts[key].most_common(1)[0]
            exception = number >= _FIRST_WHOLE_WORD
            if support >= _MIN_SUPPORT[number] and not (exception and len(counts[key]) > 1):
                added[key] = part
        predicted = [added.get(key, guess) for key, guess in zip(keys, predicted, strict=True)]
        rules |= added
    return _without_redundant(rules)


def _without_redundant(rules: Mapping[str, str]) -> dict[str, str]:
    """Return the rules that say something else than the longest shorter one that applies where they do."""
    kept: dict[str, str] = {}
    for number, (before, after) in enumerate(CONTEXTS):
        for key, part in rules.items():
            at = key.index("|")
            if (at, len(key) - at - 2) != (before, after):
                continue
            shorter = (
                kept.get(f"{key[at - fewer_before : at]}|{key[at + 1 : at + 2 + fewer_after]}")
                for fewer_before, fewer_after in reversed(CONTEXTS[:number])
            )
            if next((x for x in shorter if x is not None), None) != part:
                kept[key] = part
    return kept


def _whole_words(vocabulary: Sequence[str], voice: str, seed: int) -> dict[str, str]:
    """Return the phones of numbers, of names of letters, and of the most frequent words as they are in a sentence."""
    words = {str(number): text_to_phones(str(number), voice) for number in range(_NUMBERS)}
    common = vocabulary[:_COMMON_WORDS]
    letters = {letter for word in common for letter in word if letter.isalpha()}
    words |= {letter: text_to_phones(letter, voice) for letter in sorted(letters)}
    rng = np.random.default_rng(seed)
    for word in vocabulary[:_FUNCTION_WORDS]:
        if split_words(word) != [word]:
            continue
        heard: Counter[str] = Counter()
        for _ in range(_CONTEXT_SAMPLES):
            sentence = [common[i] for i in rng.integers(0, len(common), _CONTEXT_WORDS)]
            sentence[_CONTEXT_WORDS // 2] = word
            heard[words_to_phones(" ".join(sentence), voice)[_CONTEXT_WORDS // 2]] += 1
        words[word] = heard.most_common(1)[0][0]
    return {word: phones for word, phones in words.items() if phones}


def _features(vocabulary: Sequence[str], frequencies: Iterable[float]) -> dict[str, float]:
    """Return the log-probabilities of the most frequent trigrams and words that are sampled by `frequencies`."""
    counts: dict[str, float] = defaultdict(float)
    for word, frequency in zip(vocabulary, frequencies, strict=True):
        for feature in language_features(split_words(word)):
            counts[feature] += frequency
    listed: dict[str, float] = {}
    for names, number in (
        ([name for name in counts if len(name) <= 3], _MAX_TRIGRAMS),
        ([name for name in counts if len(name) > 3], _MAX_WORDS),
    ):
        total = sum(counts[name] for name in names)
        best = sorted(names, key=lambda name: (-counts[name], name))[:number]
        listed |= {name: math.log(counts[name] / total) for name in best}
    return listed


def _score(rules: LanguageRules, held_out: Aligned) -> tuple[float, float]:
    """Return edits per phone, and the share of words without an error."""
    edits = phones = right = 0
    for word, parts in held_out:
        expected, actual = "".join(parts), rules.pronounce(word)
        edits += edit_distance(actual, expected)
        phones += len(expected)
        right += actual == expected
    return edits / max(phones, 1), right / max(len(held_out), 1)


def edit_distance(actual: Sequence[object], expected: Sequence[object]) -> int:
    """Return the least number of insertions, deletions and substitutions from one sequence to the other."""
    row = list(range(len(expected) + 1))
    for i, x in enumerate(actual, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(expected, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]
