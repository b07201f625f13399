"""The folder of a head: `head.json`, `head.safetensors`, and for a fine-tuned encoder its model folder `encoder`.

Nothing in it is ever unpickled.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError

from clara_search.classification.head import Head, HeadConfig
from clara_search.config import from_file
from clara_search.errors import FormatError, OutputError, first_line
from clara_search.files.atomic import atomic_files
from clara_search.files.json_reader import read_json
from clara_search.models.recorded import RecordedModel
from clara_search.models.stored.strict_loading import check_size, load_strictly, read_tensors

FORMAT_VERSION = 1
CONFIG_FILE, WEIGHTS_FILE, ENCODER_FOLDER = "head.json", "head.safetensors", "encoder"


def save_head(folder: Path, head: Head) -> None:
    """Write a head.

    Args:
        folder: The folder; it is created if missing.
        head: The head.

    Raises:
        OutputError: The folder cannot be written.
    """
    model = head.config.model
    values = {**dataclasses.asdict(head.config), "model": model.name, "fingerprint": model.fingerprint}
    config = {"format_version": FORMAT_VERSION, **values}
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()}
    try:
        with atomic_files(folder, (WEIGHTS_FILE, CONFIG_FILE)) as partial:
            safetensors.torch.save_file(weights, partial / WEIGHTS_FILE)
            text = json.dumps(config, indent=1, ensure_ascii=False) + "\n"
            (partial / CONFIG_FILE).write_text(text, encoding="utf-8")
    except SafetensorError as error:
        raise OutputError(f"{folder}: the head cannot be written ({first_line(error)})") from error


def load_head(folder: Path) -> Head:
    """Read a head.

    Args:
        folder: A folder that `save_head` wrote.

    Returns:
        The head, in evaluation mode.

    Raises:
        FormatError: A file is missing or broken.
    """
    path, weights_path = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    try:
        values = read_json(path)
    except OSError as error:
        raise FormatError(f"{folder}: not a head folder, it has no readable {CONFIG_FILE}") from error
    if values.pop("format_version", None) != FORMAT_VERSION:
        raise FormatError(f"{path}: not a head of format version {FORMAT_VERSION}")
    names = {"name": "model", "fingerprint": "fingerprint"}
    values["model"] = {name: values.pop(key) for name, key in names.items() if key in values}
    config = from_file(HeadConfig, values, path)
    with torch.device("meta"):
        head = Head(config)
    check_size(head, path)
    load_strictly(head, read_tensors(weights_path), weights_path)
    return head.eval()


def load_head_encoder(folder: Path, head: Head) -> str | RecordedModel | None:
    """Return the model whose vectors a head takes, for `load_encoder`; None if it records none.

    Args:
        folder: The folder of the head.
        head: The head.

    Returns:
        The model folder within `folder`, or the model that is recorded.
    """
    encoder = folder / ENCODER_FOLDER
    return str(encoder) if encoder.is_dir() else head.config.model if head.config.model.name else None
