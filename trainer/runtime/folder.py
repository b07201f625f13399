"""What a run folder holds a run to: one process at a time, and the recipe that it was begun with."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from clara_search.errors import ConfigError, OutputError
from clara_search.files.atomic import atomic_write_text, make_folder
from trainer.config.recipe import Recipe, load_recipe, to_toml

RECIPE_FILE = "recipe.toml"

_FREE = ("run.", "data.workers", "data.decode", "loss.chunk")
"""Settings that may change when a run goes on: where and how it runs, not what comes out. More epochs may be too."""


@contextmanager
def run_lock(run: Path) -> Iterator[None]:
    """Hold the run folder, for the process that leads. Raises OutputError where another run holds it."""
    lock = FileLock(make_folder(run) / "run.lock", timeout=0)
    if not _leads():
        yield
        return
    try:
        lock.acquire()
    except Timeout:
        raise OutputError(f"{run}: another process trains there; wait for it, or take another `run`") from None
    except OSError as error:
        raise OutputError(f"{run}: cannot be written ({error.strerror})") from error
    try:
        yield
    finally:
        lock.release()


def _leads() -> bool:
    """Return whether this is the first of a run's processes, as torchrun, SLURM and Lightning say before it begins."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK")
    return all(os.environ.get(name, "0") == "0" for name in names)


def check_recipe_unchanged(run: Path, recipe: Recipe, tokenizer: Path) -> None:
    """Note `recipe` in `run`; where that has no checkpoint and another recipe, forget the `tokenizer` of that one.

    Raises FormatError, naming the first setting that differs, where a run goes on that was begun with other settings.
    """
    path = run / RECIPE_FILE
    begun = any((run / "checkpoints").glob("*.ckpt"))
    if begun and path.is_file():
        check_same(load_recipe(path), recipe, path)
    text = to_toml(recipe)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        if not begun:  # what an earlier try learnt, perhaps of other texts
            tokenizer.unlink(missing_ok=True)
        atomic_write_text(path, text)


def check_same(before: Recipe, now: Recipe, path: Path) -> None:
    """Raise ConfigError, naming the first setting in which `now` differs from `before` of `path`, if it may not."""
    old, new = (dict(_flat(dataclasses.asdict(recipe))) for recipe in (before, now))
    for key in {**old, **new}:
        if old.get(key) == new.get(key) or key == "preset" or key.startswith(_FREE):
            continue
        if key == "optim.epochs" and now.optim.epochs > before.optim.epochs:
            continue
        raise ConfigError(
            f"{key} is {new.get(key)!r}, and was {old.get(key)!r} when this run began ({path}): "
            "set it so again, or take another `run`"
        )


def _flat(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value
