"""Settings of training captions."""

from __future__ import annotations

from dataclasses import dataclass

from clara_search.config import check_bounds
from trainer.config.augmentation import Probability

TEMPLATES = (
    "the sound of {text}",
    "sound of a {text}",
    "{text} sound",
    "a recording of {text}",
    "the sounds of {text}",
    "a person talking in a {emotion} voice",
    "somebody speaks in a {emotion} tone",
)
"""What a caption may be framed in: {text} is the name of a sound, {emotion} and others the value of such a label."""


@dataclass(frozen=True)
class CaptionConfig:
    """How often a caption is other than what is written.

    Attributes:
        template_probability: how often the name of a sound, or a label such as "emotion:angry", is put into a sentence.
        templates: the sentences.
        translations: CSV of words in several languages for the names of sounds, a path or a file of trainer/recipes.
        translation_probability: how often the name of a sound is put into another language of that table.
        language_probability: how often a text carries the token of its language.
        generator: folder of a text-generation model of `transformers` that writes the captions of blends; "" for the
            grammar.
    """

    template_probability: Probability = 0.5
    templates: tuple[str, ...] = TEMPLATES
    translations: str = ""
    translation_probability: Probability = 0.0
    language_probability: Probability = 0.5
    generator: str = ""

    def __post_init__(self) -> None:
        check_bounds(self)
