"""The recipe: a TOML file with all settings of a training run, read into a frozen dataclass."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from clara_search.config import Between, check_bounds, from_mapping
from clara_search.errors import ConfigError, FormatError, SourceError, UnknownModel
from clara_search.files.redact import without_credentials
from clara_search.models.clara.checkpoint import read_config
from clara_search.models.clara.config import ClaraConfig
from clara_search.models.hub import is_hub_id
from clara_search.models.registry import find_model
from trainer.config.augmentation import AugmentConfig
from trainer.config.captions import CaptionConfig
from trainer.config.loss import LossConfig, check_auxiliary_names
from trainer.config.presets import PRESETS
from trainer.config.sections import DataConfig, DistillConfig, InitConfig, OptimConfig, RunConfig, TokenizerConfig

RECIPES = Path(__file__).parent.parent / "recipes"

_TEACHERS = {"frame_distillation": "audio", "similarity_distillation": "text"}
"""Auxiliary losses with a teacher, and the key of `[distill]` that names it."""


@dataclass(frozen=True)
class Recipe:
    """All settings of a training run.

    Attributes:
        name: of the model.
        seed: of everything that is random in the run.
        preset: name of a model configuration that `model` changes.
        evaluation: file of suites (`trainer.config.evaluation`) that the model is scored on; "" for none.
        auxiliary: weights of auxiliary losses by name (`trainer.config.loss.AUXILIARY_LOSSES`).
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
    auxiliary: Annotated[dict[str, float], Between(0, 1000)] = field(default_factory=dict)
    distill: DistillConfig = field(default_factory=DistillConfig)
    init: InitConfig = field(default_factory=InitConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)
    model: ClaraConfig = field(default_factory=ClaraConfig)

    def __post_init__(self) -> None:
        check_bounds(self)
        check_auxiliary_names(self.auxiliary)
        if not re.fullmatch(r"[\w][\w.+ -]{0,99}", self.name):
            raise ValueError(f"name is a folder's name: at most 100 letters, digits, . _ + -, got {self.name[:30]!r}")
        if self.model.text.layers < 1:
            raise ValueError("model.text.layers must be at least 1")
        for loss, tower in _TEACHERS.items():
            if bool(self.auxiliary.get(loss)) != bool(getattr(self.distill, tower)):
                raise ValueError(f"auxiliary.{loss} and distill.{tower} need each other: set both or neither")


def load_recipe(path: Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe.

    Its `[model]` changes the configuration of its `preset`, or else of the model that `init.from` names.

    Args:
        path: a TOML file, or the name of a bundled one.
        overrides: settings that replace those of the file, such as "optim.epochs=2".

    Raises:
        ConfigError: naming file and key, for a setting that is missing, unknown or of another type.
        FormatError: the file is not TOML.
        SourceError: the file does not exist or cannot be read.
    """
    file = bundled_file(path)
    values = read_toml(file)
    if "name" not in values and not any(override.strip().startswith("name=") for override in overrides):
        raise ConfigError(f'{file}: a recipe needs a name: add name = "..." to its top')
    for override in overrides:
        apply_override(values, override)
    _check_hub_is_typed(values, overrides, file)
    base, changes = _base_model(values, file), values.get("model", {})
    if base is not None and isinstance(changes, Mapping):
        values["model"] = _merge(dataclasses.asdict(base), changes)
    return from_mapping(Recipe, values, str(file))


def _check_hub_is_typed(values: Mapping[str, Any], overrides: Sequence[str], file: Path) -> None:
    """Raise UnknownModel if the file itself names a model of the hub: others write recipes, and the token is ours."""
    init = values.get("init")
    source = init.get("from") if isinstance(init, Mapping) else None
    is_typed = any(override.partition("=")[0].strip() == "init.from" for override in overrides)
    if isinstance(source, str) and is_hub_id(source) and not is_typed and not Path(source).is_dir():
        raise UnknownModel(
            f"{file}: names {source!r}, which is no folder; a model of the hub is downloaded only where it is typed: "
            "give it as `init`"
        )


def _base_model(values: Mapping[str, Any], file: Path) -> ClaraConfig | None:
    """Return the configuration that `[model]` changes; None for the default one."""
    preset, init = values.get("preset"), values.get("init")
    if preset:
        if not isinstance(preset, str) or preset not in PRESETS:
            raise ConfigError(f"{file}: no preset {preset!r}; there are {', '.join(sorted(PRESETS))}")
        return PRESETS[preset]
    source = init.get("from") if isinstance(init, Mapping) else None
    return read_config(find_model(source)) if source and isinstance(source, str) else None


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file. Raises SourceError if it cannot be read, FormatError if it is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"{path}: broken TOML ({error})") from error


def bundled_file(path: str | Path, folder: Path = RECIPES) -> Path:
    """Return `path` if that file exists; else, for a bare name or recipes/NAME, the file of that name in `folder`.

    Raises SourceError, listing the files of `folder` with the same suffix, if neither exists.
    """
    file = Path(path)
    if not file.is_file() and file.parent in (Path(), Path("recipes"), Path("trainer/recipes")):
        file = folder / file.name
    if not file.is_file():
        others = ", ".join(sorted(p.name for p in folder.glob(f"*{Path(path).suffix or '.toml'}")))
        raise SourceError(f"{path}: no such file; there are {others}")
    return file


def to_mapping(recipe: Recipe) -> dict[str, Any]:
    """Return the settings of `recipe` as nested dicts, under the keys of a recipe file; URLs without credentials."""
    return _keys(dataclasses.asdict(recipe), recipe)


def _keys(values: dict[str, Any], config: Any) -> dict[str, Any]:
    nested = {name: getattr(config, name) for name in values}
    return {
        name.removesuffix("_"): _keys(value, nested[name]) if dataclasses.is_dataclass(nested[name]) else _public(value)
        for name, value in values.items()
    }


def _public(value: Any) -> Any:
    """Return a setting, or a tuple of them, without the credentials of URLs."""
    if isinstance(value, tuple):
        return tuple(map(_public, value))
    return without_credentials(value) if isinstance(value, str) else value


def to_toml(recipe: Recipe) -> str:
    """Return `recipe` as TOML with every setting, which `load_recipe` reads back to an equal recipe."""
    return "".join(_tables(to_mapping(recipe), ""))


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


def _merge(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `changes`, nested tables merged key by key."""
    merged = dict(base)
    for key, value in changes.items():
        nested = merged.get(key)
        merged[key] = _merge(nested, value) if isinstance(nested, dict) and isinstance(value, Mapping) else value
    return merged


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set "path.to.key=value" in nested tables; the value is TOML, or else a string.

    Raises ConfigError for an override of another form.
    """
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
            raise ConfigError(f"`overrides` {override}: {part} is not a table of settings")
    values[last] = value
