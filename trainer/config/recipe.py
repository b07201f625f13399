"""A run is a file: the recipe, a TOML that becomes one frozen dataclass."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from clara_search.config import Between, check_bounds, from_mapping
from clara_search.errors import ConfigError, FormatError, SourceError
from clara_search.models.clara.config import ClaraConfig
from trainer.config.augmentation import AugmentConfig
from trainer.config.captions import CaptionConfig
from trainer.config.loss import LossConfig
from trainer.config.presets import PRESETS
from trainer.config.sections import (
    DataConfig,
    OptimConfig,
    PhonesConfig,
    RunConfig,
    TeacherConfig,
    TokenizerConfig,
    TowersConfig,
)

RECIPES = Path(__file__).parent.parent / "recipes"


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run; `seed` makes it repeatable, `preset` names what `model` begins with.

    `evaluation` names a file of suites (`trainer.config.evaluation`) that the model is scored on; "" for none.
    """

    name: str
    seed: Annotated[int, Between(0, 2**32 - 1)] = 0
    preset: str = ""
    evaluation: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    captions: CaptionConfig = field(default_factory=CaptionConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    phones: PhonesConfig = field(default_factory=PhonesConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    towers: TowersConfig = field(default_factory=TowersConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)
    model: ClaraConfig = field(default_factory=ClaraConfig)

    def __post_init__(self) -> None:
        check_bounds(self)
        if not re.fullmatch(r"[\w][\w.+ -]{0,99}", self.name):
            raise ValueError(f"name is a folder's name: at most 100 letters, digits, . _ + -, got {self.name[:30]!r}")
        if self.model.text.layers < 1:
            raise ValueError("model.text.layers must be at least 1")


def load_recipe(path: Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """Read `path`, or the bundled recipe of that name, with `overrides` such as "optim.epochs=2".

    Raises ConfigError, naming file and key, for a setting that is missing, unknown or of another type; else as
    `bundled_file` and the reading of a TOML file do.
    """
    found = bundled_file(path)
    values = read_toml(found)
    if "name" not in values and not any(override.strip().startswith("name=") for override in overrides):
        raise ConfigError(f'{found}: no recipe without a name: begin it with name = "..."')
    for override in overrides:
        apply_override(values, override)
    preset = values.get("preset")
    if preset:
        if not isinstance(preset, str) or preset not in PRESETS:
            raise ConfigError(f"{found}: no preset {preset!r}; there are {', '.join(sorted(PRESETS))}")
        changes = values.get("model", {})
        if isinstance(changes, Mapping):
            values["model"] = _merged(dataclasses.asdict(PRESETS[preset]), changes)
    return from_mapping(Recipe, values, str(found))


def read_toml(path: Path) -> dict[str, Any]:
    """Return the settings in a TOML file. Raises SourceError where it cannot be read, FormatError for no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"{path}: broken TOML ({error})") from error


def bundled_file(path: str | Path, folder: Path = RECIPES) -> Path:
    """Return `path` where there is such a file, or for a bare name, or recipes/NAME, that of `folder`.

    Raises SourceError, naming those there are of that kind, for neither.
    """
    found = Path(path)
    if not found.is_file() and found.parent in (Path(), Path("recipes"), Path("trainer/recipes")):
        found = folder / found.name
    if not found.is_file():
        others = ", ".join(sorted(p.name for p in folder.glob(f"*{Path(path).suffix or '.toml'}")))
        raise SourceError(f"{path}: no such file; there are {others}")
    return found


def to_toml(recipe: Recipe) -> str:
    """Return `recipe` as a TOML that `load_recipe` reads back, every setting spelled out."""
    return "".join(_tables(dataclasses.asdict(dataclasses.replace(recipe, preset="")), ""))


def _tables(values: Mapping[str, Any], path: str) -> list[str]:
    plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
    lines = [f"\n[{path}]\n"] if path and plain else []
    lines += [f"{_key(key)} = {_literal(value)}\n" for key, value in plain.items() if value is not None]
    for key, value in values.items():
        if isinstance(value, dict):
            lines += _tables(value, f"{path}.{_key(key)}" if path else _key(key))
    return lines


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else _literal(key)


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = "".join(f"\\u{ord(c):04x}" if ord(c) < 32 or c in '"\\' or ord(c) == 127 else c for c in value)
        return f'"{escaped}"'
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_literal, value))}]"
    return repr(value)


def _merged(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(base)
    for key, value in changes.items():
        inside = found.get(key)
        found[key] = _merged(inside, value) if isinstance(inside, dict) and isinstance(value, Mapping) else value
    return found


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set what "path.to.key=value" says, value as in TOML or else a text. Raises ConfigError for another form."""
    key, equals, literal = override.partition("=")
    try:
        value = tomllib.loads(f"value = {literal}")["value"] if equals else None
    except tomllib.TOMLDecodeError:
        value = literal
    *path, last = key.strip().split(".")
    if not equals or not last:
        raise ConfigError(f"`overrides` {override}: expected key=value")
    for part in path:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise ConfigError(f"`overrides` {override}: {part} is no table of settings")
    values[last] = value
