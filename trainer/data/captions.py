"""What a recording is called in training: its transcript, or the name of its sound, framed, translated or joined."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from clara_search.datasets.example import Example
from clara_search.errors import FormatError, first_line
from trainer.config.captions import CaptionConfig

_HEAD_FIRST = {"es", "fr", "it", "ru"}
"""Languages that put what something is before what it is made of or done with."""

_PLACES = {"on", "in"}
"""Words whose neighbours keep their order in every language of a table."""


class Translations:
    """Words and phrases in several languages, for the names of sounds."""

    def __init__(self, phrases: Mapping[tuple[str, ...], Mapping[str, str]]) -> None:
        self._phrases = phrases
        self._longest = max(map(len, phrases))
        self.languages = sorted({language for words in phrases.values() for language in words})
        self.names = [" ".join(words) for words in phrases]

    @classmethod
    def load(cls, path: Path) -> Translations:
        """Read a CSV whose columns are languages, the first the one that names are written in.

        Raises FormatError, naming the file and the line, for a cell too few, too many or empty.
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
        """Return `text` in `language`, word by word, or None where one is not in the table."""
        words = text.lower().split()
        found: list[str] = []
        at = 0
        while at < len(words):
            for length in range(min(self._longest, len(words) - at), 0, -1):
                phrase = self._phrases.get(tuple(words[at : at + length]))
                if phrase is not None and language in phrase:
                    found.append(phrase[language])
                    at += length
                    break
            else:
                return None
        return " ".join(reversed(found) if language in _HEAD_FIRST and not _PLACES & set(words) else found)


class Captions:
    """Texts for recordings, drawn afresh each time."""

    def __init__(
        self,
        config: CaptionConfig,
        translations: Translations | None = None,
        fuse: Callable[[str, str], str] | None = None,
    ) -> None:
        self.config, self.translations, self.fuse = config, translations, fuse or fused

    def of(self, example: Example, rng: np.random.Generator, behind: Example | None = None) -> tuple[str, str | None]:
        """Return a text for `example`, with what is blended into it, and the language the text is in; None: several."""
        text, language = self._alone(example, rng)
        if behind is None:
            return text, language
        return self.fuse(text, self._alternative(behind, rng)), language if language == behind.text_language else None

    def _alone(self, example: Example, rng: np.random.Generator) -> tuple[str, str | None]:
        text, config = self._alternative(example, rng), self.config
        speech = example.kind == "speech"
        if not speech and self.translations is not None and rng.random() < config.translation_probability:
            language = self.translations.languages[rng.integers(len(self.translations.languages))]
            translated = self.translations.translate(text, language)
            if translated is not None:
                return translated, language
        key, _, value = (example.label or "").partition(":")
        fits = [x for x in config.templates if (not speech and "{text}" in x) or (value and f"{{{key}}}" in x)]
        if fits and rng.random() < config.template_probability:
            template = fits[rng.integers(len(fits))]
            return template.replace("{text}", text).replace(f"{{{key}}}", value), example.text_language
        return text, example.text_language

    @staticmethod
    def _alternative(example: Example, rng: np.random.Generator) -> str:
        texts = (example.text, *example.alternatives)
        return texts[rng.integers(len(texts))] if len(texts) > 1 else texts[0]


def fused(said: str, heard: str) -> str:
    """Return the caption of speech that says `said` with the sound `heard` in it."""
    return f'a person saying "{said}", {heard} in the background'


class Generator:
    """Writes the captions of blends with the text-generation model of `transformers` in `folder`."""

    PROMPT = 'Someone says "{said}" while this is heard: {heard}. One short caption of the recording:'

    def __init__(self, folder: Path) -> None:
        from transformers import pipeline

        try:
            self._generate: Any = pipeline("text-generation", model=str(folder), device="cpu")
        except Exception as error:  # transformers raises nearly anything for a broken folder
            raise FormatError(
                f"{folder}: not a text-generation model that can be loaded ({first_line(error)})"
            ) from error

    @lru_cache(maxsize=100_000)  # noqa: B019 - one a process, for its life
    def __call__(self, said: str, heard: str) -> str:
        """Return what the model writes, or the grammar's caption where it writes nothing."""
        prompt = self.PROMPT.format(said=said, heard=heard)
        written = self._generate(prompt, max_new_tokens=40, do_sample=False, return_full_text=False)[0][
            "generated_text"
        ]
        return next((line.strip() for line in written.splitlines() if line.strip()), fused(said, heard))
