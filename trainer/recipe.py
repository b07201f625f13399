"""A run is a file: the recipe, a TOML that becomes one frozen dataclass."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clara_search.config import from_mapping
from clara_search.errors import FormatError
from clara_search.models.clara import ClaraConfig
from trainer.augment import AugmentConfig

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class DataConfig:
    """What is trained on.

    Attributes:
        batch_size: pairs in a step.
        max_audio_s: longer speech is left out (its text would not fit a part of it), longer sounds are cropped.
        held_out_speakers: speakers that are never trained on.
        sound_repeats: how often an epoch has each recording without speech.
        digits_repeats: how often an epoch has each digit of `digits_source`.
        digits_source: the only source whose spoken digits are trained on; all other recordings of a digit are a test.
        template_probability: how often a sound's name is put into a sentence ("the sound of ...").
        language_probability: how often a text carries the token of its language.
    """

    batch_size: int = 128
    max_audio_s: float = 10.0
    held_out_speakers: tuple[str, ...] = ()
    sound_repeats: int = 1
    digits_repeats: int = 1
    digits_source: str = "espeak_digits"
    template_probability: float = 0.5
    language_probability: float = 0.5


@dataclass(frozen=True)
class TokenizerConfig:
    """A byte-level BPE of `vocab_size` tokens; in training each merge is dropped with probability `dropout`."""

    vocab_size: int = 8000
    dropout: float = 0.1


@dataclass(frozen=True)
class PhonesConfig:
    """An auxiliary loss: the frames of the audio tower are asked for the phones of what is said (CTC).

    Attributes:
        weight: of that loss beside the contrastive one; 0 leaves it out.
        per_frame: how many phones a frame may hold; phones come faster than the frames of a strided tower.
    """

    weight: float = 0.0
    per_frame: int = 1


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW with a linear warm-up and a cosine to zero over `epochs`; `clip` bounds the norm of the gradient."""

    epochs: int = 20
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup_steps: int = 200
    clip: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run but the data's place; `seed` makes it repeatable."""

    name: str
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    phones: PhonesConfig = field(default_factory=PhonesConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    model: ClaraConfig = field(default_factory=ClaraConfig)


def load_recipe(path: Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """Read `path`, or the bundled recipe of that name, with `overrides` such as "optimiser.epochs=2".

    Raises FormatError, naming file and key, for what is missing, unknown or of another type.
    """
    found = next((place for place in (path, RECIPES / path.name) if place.is_file()), None)
    if found is None:
        raise FormatError(
            f"{path}: no such recipe; there are {', '.join(sorted(p.name for p in RECIPES.glob('*.toml')))}"
        )
    try:
        values = tomllib.loads(found.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{found}: broken TOML ({error})") from error
    for override in overrides:
        _set(values, override)
    return from_mapping(Recipe, values, str(found))


def _set(values: dict[str, Any], override: str) -> None:
    key, equals, literal = override.partition("=")
    try:
        value = tomllib.loads(f"value = {literal}")["value"] if equals else None
    except tomllib.TOMLDecodeError:
        value = literal
    *path, last = key.strip().split(".")
    if not equals or not last:
        raise FormatError(f"--set {override}: expected key=value")
    for part in path:
        values = values.setdefault(part, {})
    values[last] = value
