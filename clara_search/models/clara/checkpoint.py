"""The model folder: config.json, model.safetensors, tokenizer.json, README.md."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from clara_search.config import from_file
from clara_search.errors import ClaraError, FormatError, OutputError, first_line
from clara_search.models.clara.towers import Clara, ClaraConfig
from clara_search.models.folder import CARD_FILE, CONFIG_FILE, count_parameters, hash_file, read_json
from clara_search.models.state_dict import summarize
from clara_search.text.tokenizer import Tokenizer

FORMAT_VERSION = 1
MODEL_TYPE = "clara"
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
WEIGHTS_FILE, TOKENIZER_FILE = "model.safetensors", "tokenizer.json"
MODEL_FILES = (WEIGHTS_FILE, TOKENIZER_FILE, CARD_FILE, CONFIG_FILE)
"""In the order in which they are put in place: a folder that has the last one is whole."""


def save_model(folder: Path, model: Clara, tokenizer: Tokenizer, card: str, dtype: torch.dtype = torch.float16) -> None:
    """Write a model folder. Weights are stored as `dtype`; they are computed with in float32.

    All files are written beside `folder` before the first takes its place in it. Raises OutputError where they cannot
    be, and for weights that `dtype` cannot hold.
    """
    config = {"model_type": MODEL_TYPE, "format_version": FORMAT_VERSION, **dataclasses.asdict(model.config)}
    weights = {name: tensor.detach().to(dtype, copy=True).contiguous() for name, tensor in model.state_dict().items()}
    if broken := [name for name, tensor in weights.items() if not tensor.isfinite().all()]:
        raise OutputError(f"{folder}: {broken[0]} is not finite as {dtype}: not written")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder) as place:
            partial = Path(place)
            (partial / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            safetensors.torch.save_file(weights, partial / WEIGHTS_FILE, metadata={"format": "pt"})
            tokenizer.save(partial / TOKENIZER_FILE)
            (partial / CARD_FILE).write_text(card, encoding="utf-8")
            for name in MODEL_FILES:
                (partial / name).replace(folder / name)
    except ClaraError:
        raise
    except Exception as error:  # safetensors and tokenizers have exceptions of their own for a full disk
        raise OutputError(f"{folder}: the model cannot be written there ({first_line(error)})") from error


def load_model(folder: Path) -> tuple[Clara, Tokenizer]:
    """Read a model folder, in evaluation mode, float32. Raises FormatError, naming the file, for what is broken.

    Weights that are float32 on disk are not copied: they are read from the file as they are used.
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
    """Return the tensors of a model folder by name. Raises FormatError where they cannot be read."""
    path = folder / WEIGHTS_FILE
    try:
        return safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise FormatError(f"{path}: cannot be read ({error})") from error


def assemble(config: ClaraConfig, weights: Mapping[str, Tensor], path: Path) -> Clara:
    """Return a model of `config` made of `weights` alone, in evaluation mode, float32.

    Raises FormatError, naming `path` and the tensor, for one that is missing, unknown, of another shape, or holds no
    numbers that can be computed with.
    """
    with torch.device("meta"):
        model = Clara(config)
    wanted = model.state_dict()
    for name, tensor in weights.items():
        if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.dtype not in _DTYPES:
            raise FormatError(f"{path}: {name} holds {tensor.dtype}, {tensor.layout} on {tensor.device}: no weights")
    missing = [f"{name} is missing" for name in wanted if name not in weights]
    unknown = [f"{name} is unknown" for name in weights if name not in wanted]
    misshapen = [
        f"{name} has shape {tuple(tensor.shape)}, expected {tuple(wanted[name].shape)}"
        for name, tensor in weights.items()
        if name in wanted and tensor.shape != wanted[name].shape
    ]
    weights = {name: tensor.float() for name, tensor in weights.items()}
    broken = [f"{name} is not finite" for name, tensor in weights.items() if not tensor.isfinite().all()]
    if missing or unknown or misshapen or broken:
        raise FormatError(f"{path}: {summarize(missing, unknown, misshapen, broken)}")
    model.load_state_dict(weights, assign=True)
    return model.eval()


def describe(folder: Path) -> dict[str, Any]:
    """Return what is known of the model in `folder`, without loading it."""
    config, tokenizer = read_config(folder), Tokenizer.load(folder / TOKENIZER_FILE)
    weights = folder / WEIGHTS_FILE
    return {
        "name": config.name,
        "dim": config.dim,
        "sample_rate": config.mel.sample_rate,
        "parameters": count_parameters([weights]),
        "size_bytes": weights.stat().st_size,
        "tokenizer": f"{tokenizer.vocab_size} tokens",
        "languages": tokenizer.languages,
        "fingerprint": fingerprint(folder),
    }


def read_config(folder: Path) -> ClaraConfig:
    """Read the configuration of a CLARA model folder. Raises FormatError where there is none or one of another kind."""
    path, values = folder / CONFIG_FILE, read_json(folder)
    if values.pop("model_type", None) != MODEL_TYPE:
        raise FormatError(f"{path}: not a {MODEL_TYPE} model")
    version = values.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise FormatError(f"{path}: format version {version}, this release reads {FORMAT_VERSION}")
    return from_file(ClaraConfig, values, path)


def fingerprint(folder: Path) -> str:
    """Return the SHA-256, in hex, over what decides a vector: configuration (but the name), weights and tokenizer."""
    config = _without_none(dataclasses.asdict(read_config(folder)))
    del config["name"]
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name in (WEIGHTS_FILE, TOKENIZER_FILE):
        hash_file(digest, folder / name)
    return digest.hexdigest()


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    """Return `values` without what is None: a setting that a later release adds leaves a fingerprint as it is."""
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if value is not None
    }
