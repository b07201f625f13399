"""Evaluation suites beyond retrieval: a TOML that a recipe names, for data whose classes or digits are known."""

from __future__ import annotations

import re
from dataclasses import dataclass

from clara_search.config import from_mapping
from trainer.config.recipe import RECIPES, bundled_file, read_toml

EVALUATIONS = RECIPES / "evaluation"

BUNDLED_EVALUATION = "clara-small-suites.toml"
"""The suites of the bundled model."""


@dataclass(frozen=True)
class DigitSuite:
    """Recorded digits, classified by the nearest of the ten words of their language.

    Attributes:
        train_source: the only source whose digits are trained on; the labelled digits of all others are tested.
        words: the words for 0 to 9, by language.
    """

    train_source: str
    words: dict[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        for language, words in self.words.items():
            if len(words) != 10:
                raise ValueError(f"words.{language} must be ten words, got {len(words)}")

    @property
    def all_words(self) -> frozenset[str]:
        """The words of all languages."""
        return frozenset(word for words in self.words.values() for word in words)


@dataclass(frozen=True)
class ClassSuite:
    """Sounds classified by prompts; the class of a sound is the only one whose pattern its name matches.

    Attributes:
        title: the classes in a few words, for the model card.
        patterns: regular expression of whole words in a sound's name, by class.
        templates: prompts with {} for the class.
    """

    title: str
    patterns: dict[str, str]
    templates: tuple[str, ...] = ("{}",)

    def __post_init__(self) -> None:
        for name, pattern in self.patterns.items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"patterns.{name} must be a regular expression ({error})") from error


@dataclass(frozen=True)
class TranslationSuite:
    """Sounds searched for by the translations of their names.

    Attributes:
        table: CSV of names and their translations.
        languages: languages to search in.
    """

    table: str
    languages: tuple[str, ...]


@dataclass(frozen=True)
class EvaluationConfig:
    """Suites to score beside retrieval and audio similarity, which need no description; None leaves a suite out."""

    digits: DigitSuite | None = None
    classes: ClassSuite | None = None
    translations: TranslationSuite | None = None


def load_evaluation(path: str) -> EvaluationConfig:
    """Return the evaluation suites in a TOML file.

    Args:
        path: the file, or the name of one in trainer/recipes/evaluation; "" for no suites.

    Raises:
        SourceError: the file cannot be read.
        FormatError: it is not TOML.
        ConfigError: a setting is unknown or wrong.
    """
    if not path:
        return EvaluationConfig()
    file = bundled_file(path, EVALUATIONS)
    return from_mapping(EvaluationConfig, read_toml(file), str(file))


def bundled_digits() -> DigitSuite:
    """Return the digit suite of the bundled model, whose words it was trained on whatever their hash."""
    suite = load_evaluation(BUNDLED_EVALUATION).digits
    assert suite is not None
    return suite
