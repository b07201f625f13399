"""Training captions: the transcript or the name of a sound, in a template, translated, or fused with another."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from clara_search.datasets.example import Example
from clara_search.errors import FormatError, first_line
from clara_search.models.folder import warn_of_code
from trainer.config.captions import CaptionConfig

_HEAD_FIRST = {"es", "fr", "it", "ru"}
"""Languages in which the head of a noun phrase comes first ("bruit de pluie" for "rain sound")."""

_PREPOSITIONS = {"on", "in"}
"""Prepositions: a phrase with one keeps its word order in every language of a table."""


class Translations:
    """A dictionary of words and phrases in several languages, for the names of sounds."""

    def __init__(self, phrases: Mapping[tuple[str, ...], Mapping[str, str]]) -> None:
        self._phrases = phrases
        self._longest = max(map(len, phrases))
        self.languages = sorted({language for words in phrases.values() for language in words})
        self.names = [" ".join(words) for words in phrases]

    @classmethod
    def load(cls, path: Path) -> Translations:
        """Read a CSV with a column for each language; the first is the language of the names.

        Raises FormatError, naming file and row, for a row with a missing, an additional or an empty cell.
        """
        try:
            with path.open(encoding="utf-8", newline="") as file:
                header, *rows = [row for row in csv.reader(file) if row]
        except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
            raise FormatError(f"{path}: not a table of translations ({error})") from error
        for row in rows:
            if len(row) != len(header) or not all(cell.strip() for cell in row):
                raise FormatError(f"{path}: {','.join(row)!r} should have {len(header)} words")
        if len(header) < 2 or not rows:
            raise FormatError(f"{path}: no translations")
        return cls({tuple(row[0].lower().split()): dict(zip(header[1:], row[1:], strict=True)) for row in rows})

    def translate(self, text: str, language: str) -> str | None:
        """Return `text` in `language`, word by word, or None if a word is not in the table."""
        words = text.lower().split()
        translated: list[str] = []
        position = 0
        while position < len(words):
            for length in range(min(self._longest, len(words) - position), 0, -1):
                phrase = self._phrases.get(tuple(words[position : position + length]))
                if phrase is not None and language in phrase:
                    translated.append(phrase[language])
                    position += length
                    break
            else:
                return None
        head_first = language in _HEAD_FIRST and not _PREPOSITIONS & set(words)
        return " ".join(reversed(translated) if head_first else translated)


class Captions:
    """Sampler of training captions."""

    def __init__(
        self,
        config: CaptionConfig,
        translations: Translations | None = None,
        fuse: Callable[[str, str], str] | None = None,
    ) -> None:
        self.config, self.translations, self.fuse = config, translations, fuse or fuse_captions

    def sample(
        self, example: Example, rng: np.random.Generator, background: Example | None = None
    ) -> tuple[str, str | None]:
        """Return a text for `example`, blended with `background`, and its language; None for a mixture of languages."""
        text, language = self._foreground(example, rng)
        if background is None:
            return text, language
        fused = self.fuse(text, self._alternative(background, rng))
        return fused, language if language == background.text_language else None

    def _foreground(self, example: Example, rng: np.random.Generator) -> tuple[str, str | None]:
        text, config = self._alternative(example, rng), self.config
        speech = example.kind == "speech"
        if not speech and self.translations is not None and rng.random() < config.translation_probability:
            language = self.translations.languages[rng.integers(len(self.translations.languages))]
            translated = self.translations.translate(text, language)
            if translated is not None:
                return translated, language
        key, _, value = (example.label or "").partition(":")
        fitting = [x for x in config.templates if (not speech and "{text}" in x) or (value and f"{{{key}}}" in x)]
        if fitting and rng.random() < config.template_probability:
            template = fitting[rng.integers(len(fitting))]
            return template.replace("{text}", text).replace(f"{{{key}}}", value), example.text_language
        return text, example.text_language

    @staticmethod
    def _alternative(example: Example, rng: np.random.Generator) -> str:
        texts = (example.text, *example.alternatives)
        return texts[rng.integers(len(texts))] if len(texts) > 1 else texts[0]


def fuse_captions(speech: str, sound: str) -> str:
    """Return the caption of speech with a transcript, blended with a sound of that name."""
    return f'a person saying "{speech}", {sound} in the background'


class Generator:
    """A text-generation model of `transformers` in `folder` that writes the captions of blends."""

    PROMPT = 'Someone says "{speech}" while this is heard: {sound}. One short caption of the recording:'

    def __init__(self, folder: Path) -> None:
        from transformers import pipeline

        try:
            warn_of_code(folder)
            if not folder.is_dir():  # never a name of the hub
                raise FileNotFoundError("there is no such folder")
            self._generate: Any = pipeline(
                "text-generation",
                model=str(folder),
                device="cpu",
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        except Exception as error:  # transformers raises nearly anything for a broken folder
            raise FormatError(
                f"{folder}: not a text-generation model that can be loaded ({first_line(error)})"
            ) from error

    @lru_cache(maxsize=100_000)  # noqa: B019 - one instance for the life of a process
    def __call__(self, speech: str, sound: str) -> str:
        """Return the first line that the model generates, or the template's caption if it generates none."""
        prompt = self.PROMPT.format(speech=speech, sound=sound)
        generated = self._generate(prompt, max_new_tokens=40, do_sample=False, return_full_text=False)[0][
            "generated_text"
        ]
        return next((line.strip() for line in generated.splitlines() if line.strip()), fuse_captions(speech, sound))
