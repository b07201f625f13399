"""CLARA model folders: config.json, model.safetensors, tokenizer.json, README.md."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from clara_search.config import from_file
from clara_search.errors import ClaraError, FormatError, OutputError, first_line
from clara_search.files.atomic import atomic_files
from clara_search.models.clara import sound_head
from clara_search.models.clara.config import ClaraConfig
from clara_search.models.clara.text_phones import PRONUNCIATION_FILE
from clara_search.models.clara.towers import Clara
from clara_search.models.folder import CARD_FILE, CONFIG_FILE, count_parameters, hash_file, read_json
from clara_search.models.stored.strict_loading import check_size, load_strictly, read_tensors
from clara_search.text.tokenizer import Tokenizer

FORMAT_VERSION = 1
MODEL_TYPE = "clara"
WEIGHTS_FILE, TOKENIZER_FILE = "model.safetensors", "tokenizer.json"
MODEL_FILES = (WEIGHTS_FILE, TOKENIZER_FILE, CARD_FILE, CONFIG_FILE)
"""In the order in which they are moved into place: a folder with the last one is complete."""
OPTIONAL_FILES = (*sound_head.FILES, PRONUNCIATION_FILE)
"""Parts that a model may have beside its towers: a sound head, pronunciation rules."""


def save_model(folder: Path, model: Clara, tokenizer: Tokenizer, card: str, dtype: torch.dtype = torch.float16) -> None:
    """Write a model folder.

    All files are written to a temporary folder before the first is moved into place. The model has no `OPTIONAL_FILES`;
    `copy_optional_files` adds those of another.

    Args:
        folder: The folder, made if it does not exist; its files of a model are replaced.
        model: The model.
        tokenizer: Its tokenizer.
        card: Its model card, Markdown.
        dtype: Type in which weights are stored; they are loaded as float32.

    Raises:
        OutputError: The files cannot be written, or a weight is not finite as `dtype`.
    """
    config = {"model_type": MODEL_TYPE, "format_version": FORMAT_VERSION, **dataclasses.asdict(model.config)}
    weights = {name: tensor.detach().to(dtype, copy=True).contiguous() for name, tensor in model.state_dict().items()}
    if broken := [name for name, tensor in weights.items() if not tensor.isfinite().all()]:
        raise OutputError(f"{folder}: {broken[0]} is not finite as {dtype}: not written")
    try:
        with atomic_files(folder, MODEL_FILES) as partial:
            (partial / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            safetensors.torch.save_file(weights, partial / WEIGHTS_FILE, metadata={"format": "pt"})
            tokenizer.save(partial / TOKENIZER_FILE)
            (partial / CARD_FILE).write_text(card, encoding="utf-8")
            for name in OPTIONAL_FILES:  # of a model that stood here before
                (folder / name).unlink(missing_ok=True)
    except ClaraError:
        raise
    except Exception as error:  # safetensors and tokenizers raise their own exceptions for a full disk
        raise OutputError(f"{folder}: the model cannot be written there ({first_line(error)})") from error


def copy_optional_files(source: Path, folder: Path) -> list[str]:
    """Copy the sound head and the pronunciation rules of the model in `source`, if any, to the one in `folder`.

    Returns:
        The names of the files.

    Raises:
        OutputError: They cannot be written.
    """
    names = [name for name in OPTIONAL_FILES if (source / name).is_file()]
    try:
        with atomic_files(folder, names) as partial:
            for name in names:
                shutil.copyfile(source / name, partial / name)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror})") from error
    return names


def load_model(folder: Path) -> tuple[Clara, Tokenizer]:
    """Load a model folder.

    Weights that are float32 on disk are mapped, not copied: they are read when used.

    Args:
        folder: The folder.

    Returns:
        The model, in evaluation mode, float32, on the CPU; and its tokenizer.

    Raises:
        FormatError: A file is missing, broken, or does not fit the others; the message names it.
    """
    config = read_config(folder)
    tokenizer = Tokenizer.load(folder / TOKENIZER_FILE)
    if tokenizer.vocab_size > config.text.vocab_size:
        raise FormatError(
            f"{folder / TOKENIZER_FILE}: has {tokenizer.vocab_size} tokens, "
            f"the model has embeddings for {config.text.vocab_size}"
        )
    return assemble(config, read_weights(folder), folder / WEIGHTS_FILE), tokenizer


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of a model folder by name.

    Raises:
        FormatError: The weights file is missing or broken.
    """
    return read_tensors(folder / WEIGHTS_FILE)


def assemble(config: ClaraConfig, weights: Mapping[str, Tensor], path: Path) -> Clara:
    """Return a model made of `weights` alone, strictly.

    Args:
        config: Its configuration.
        weights: All its tensors by name.
        path: The file they are from, for messages.

    Returns:
        The model, in evaluation mode, float32.

    Raises:
        FormatError: A tensor is missing, unknown, of another shape, or not of finite floating-point numbers.
    """
    with torch.device("meta"):
        model = Clara(config)
    check_size(model, path)
    load_strictly(model, weights, path)
    return model.eval()


def describe(folder: Path) -> dict[str, Any]:
    """Return the facts that `clara-search models show` prints, without loading the model in `folder`.

    Raises:
        FormatError: A file is missing or broken.
    """
    config, tokenizer = read_config(folder), Tokenizer.load(folder / TOKENIZER_FILE)
    sounds = sound_head.read_config(folder)
    weights = [folder / WEIGHTS_FILE, *([folder / sound_head.WEIGHTS_FILE] if sounds else [])]
    return {
        "name": config.name,
        "dim": config.dim + (sounds.added_dim if sounds else 0),
        "sample_rate": config.mel.sample_rate,
        "parameters": count_parameters(weights),
        "size_bytes": sum(path.stat().st_size for path in weights),
        "tokenizer": f"{tokenizer.vocab_size} tokens",
        "languages": tokenizer.languages,
        "fingerprint": fingerprint(folder),
    }


def read_config(folder: Path) -> ClaraConfig:
    """Read the configuration of a CLARA model folder.

    Raises:
        FormatError: It is missing, broken, of another model type or of another format version.
    """
    path, values = folder / CONFIG_FILE, read_json(folder)
    if values.pop("model_type", None) != MODEL_TYPE:
        raise FormatError(f"{path}: not a {MODEL_TYPE} model")
    version = values.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise FormatError(f"{path}: format version {version}, this release reads {FORMAT_VERSION}")
    return from_file(ClaraConfig, values, path)


def fingerprint(folder: Path) -> str:
    """Return the SHA-256, in hex, over everything that decides a vector.

    That is the configuration without the name, the weights and the tokenizer, the files of a sound head, and
    pronunciation rules.

    Raises:
        FormatError: A file is missing or broken.
    """
    config = _without_none(dataclasses.asdict(read_config(folder)))
    del config["name"]
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    rules = [PRONUNCIATION_FILE] if (folder / PRONUNCIATION_FILE).is_file() else []
    sounds = sound_head.FILES if sound_head.read_config(folder) else ()
    for name in (WEIGHTS_FILE, TOKENIZER_FILE, *sounds, *rules):
        hash_file(digest, folder / name)
    return digest.hexdigest()


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    """Return `values` without settings that are None, so that an optional setting added later keeps fingerprints."""
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if value is not None
    }
