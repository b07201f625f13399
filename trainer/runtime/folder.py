"""The folder of a run: it belongs to one process at a time, and to one recipe."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from clara_search.errors import ConfigError, OutputError
from clara_search.files.atomic import atomic_write_text, make_folder
from trainer.config.recipe import Recipe, load_recipe, to_mapping, to_toml

RECIPE_FILE = "recipe.toml"

_CHANGEABLE = ("run.", "data.workers", "data.cache_decoded", "loss.gradcache_chunk")
"""Settings that a resumed run may change, because the result does not depend on them; `optim.epochs` may grow."""


@contextmanager
def run_lock(run: Path) -> Iterator[None]:
    """Lock the run folder in the leading process. Raises OutputError if another run has locked it."""
    lock = FileLock(make_folder(run) / "run.lock", timeout=0)
    if not _is_leader():
        yield
        return
    try:
        lock.acquire()
    except Timeout:
        raise OutputError(f"{run}: another process trains there; wait for it, or choose another folder") from None
    except OSError as error:
        raise OutputError(f"{run}: cannot be written ({error.strerror})") from error
    try:
        yield
    finally:
        lock.release()


def _is_leader() -> bool:
    """Return whether this is the first process of a run, by the variables of torchrun, SLURM and Lightning."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK")
    return all(os.environ.get(name, "0") == "0" for name in names)


def check_recipe_unchanged(run: Path, recipe: Recipe, tokenizer: Path) -> None:
    """Store `recipe` in the folder `run`.

    A run without checkpoints may start over with another recipe; the file `tokenizer` of the old one is then deleted.
    Raises ConfigError, naming the setting, if a run with checkpoints was started with another value.
    """
    path = run / RECIPE_FILE
    started = any((run / "checkpoints").glob("*.ckpt"))
    if started and path.is_file():
        check_same(load_recipe(path), recipe, path)
    text = to_toml(recipe)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        if not started:  # it may have been trained on other texts
            tokenizer.unlink(missing_ok=True)
        atomic_write_text(path, text)


def check_same(before: Recipe, now: Recipe, path: Path) -> None:
    """Raise ConfigError, naming the first setting that `now` changes from `before` (read from `path`) and may not."""
    old, new = (dict(_flat(to_mapping(recipe))) for recipe in (before, now))
    for key in {**old, **new}:
        if old.get(key) == new.get(key) or key == "preset" or key.startswith(_CHANGEABLE):
            continue
        if key == "optim.epochs" and now.optim.epochs > before.optim.epochs:
            continue
        raise ConfigError(
            f"{key} is {new.get(key)!r}, and was {old.get(key)!r} when the run started ({path}): "
            "set it back, or choose another folder"
        )


def _flat(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value
