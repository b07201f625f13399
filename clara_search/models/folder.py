"""Files of model folders of any type: configuration, card, content digests, parameter counts."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from clara_search.errors import FormatError
from clara_search.files import json_reader
from clara_search.files.limits import METADATA_BYTES, WEIGHTS_BYTES
from clara_search.files.regular import open_regular, read_regular, size_of
from clara_search.models.stored.safetensors_files import count_numbers

log = logging.getLogger(__name__)

_CONFIGS_WITH_CODE = ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json")
"""Of `transformers`: each may name Python files of the folder, or of the hub, under "auto_map"."""

CONFIG_FILE, CARD_FILE = "config.json", "README.md"


def read_json(folder: Path, name: str = CONFIG_FILE) -> dict[str, Any]:
    """Return the JSON object in the file `name` of a model folder.

    Raises:
        FormatError: The file is missing, not JSON, or not an object.
    """
    try:
        return json_reader.read_json(folder / name)
    except OSError as error:
        raise FormatError(f"{folder}: not a model folder, it has no readable {name}") from error


def read_card(folder: Path) -> str:
    """Return the model card of `folder`; an empty string if it has none."""
    path = folder / CARD_FILE
    try:
        return read_regular(path, METADATA_BYTES).decode("utf-8", "replace") if path.is_file() else ""
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror})") from error


def count_parameters(paths: Iterable[Path]) -> int | None:
    """Return the number of parameters in safetensors files, from their headers; None if one has another format.

    Raises:
        FormatError: A file cannot be read.
    """
    total = 0
    for path in paths:
        if path.suffix != ".safetensors":
            return None
        total += count_numbers(path)
    return total


def hash_file(digest: hashlib._Hash, path: Path) -> None:
    """Update `digest` with the content of a file of a model folder.

    Raises:
        FormatError: The file cannot be read.
    """
    try:
        with open_regular(path) as file:
            size_of(file, path, WEIGHTS_BYTES)
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise FormatError(f"{path.parent}: incomplete model folder, {path.name} cannot be read") from error


def warn_of_code(folder: Path) -> None:
    """Log that code which a model folder of `transformers` brings or names is not run, if it does."""
    named = []
    for name in _CONFIGS_WITH_CODE:
        with suppress(OSError, FormatError):  # whoever needs the file says what is wrong with it
            content = read_regular(folder / name, METADATA_BYTES)
            named += [name] if b'"auto_map"' in content or b'"custom_pipelines"' in content else []
    code = sorted(path.name for path in folder.glob("*.py")) if folder.is_dir() else []
    if named or code:
        log.warning("%s: brings code of its own (%s), which is not run", folder, ", ".join([*named, *code]))
