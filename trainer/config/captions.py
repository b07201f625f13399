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
"""Caption templates: {text} is the name of a sound; {emotion} and others are the value of a label of that key."""


@dataclass(frozen=True)
class CaptionConfig:
    """Variation of training captions.

    Attributes:
        template_probability: of putting the name of a sound, or a label such as "emotion:angry", into a template.
        templates: see `TEMPLATES`.
        translations: CSV of words in several languages for the names of sounds; a path or a file in trainer/recipes.
        translation_probability: of translating the name of a sound to a language of that table.
        language_probability: of giving a text the token of its language.
        generator: folder of a text-generation model of `transformers` that writes the captions of blends; "" for a
            template.
    """

    template_probability: Probability = 0.5
    templates: tuple[str, ...] = TEMPLATES
    translations: str = ""
    translation_probability: Probability = 0.0
    language_probability: Probability = 0.5
    generator: str = ""

    def __post_init__(self) -> None:
        check_bounds(self)
