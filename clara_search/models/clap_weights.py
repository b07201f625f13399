"""Weights of a CLAP folder of `transformers`: their files, and a model made of them alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from clara_search.errors import FormatError
from clara_search.models.folder import read_json
from clara_search.models.state_dict import summarize, unwrap

WEIGHTS_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
"""Files in which `transformers` looks for weights, in this order."""

_ROOTS = ("model", "clap")
"""Attributes in which an enclosing model may have the CLAP model."""


def load_clap(folder: Path, dtype: torch.dtype) -> Any:
    """Load the `ClapModel` in `folder`, strictly.

    `transformers` itself would fill missing weights with random numbers and ignore unknown ones. Prefixes that wrappers
    such as torch.compile add to names are stripped, which is logged.

    Args:
        folder: The model folder.
        dtype: Type of the weights in memory.

    Returns:
        The model.

    Raises:
        FormatError: A tensor is missing, unknown, of another shape or not finite; the message names it.
    """
    from transformers import ClapConfig, ClapModel

    state: dict[str, Tensor] = {}
    for path in weight_files(folder):
        tensors = _read_tensors(path)
        if duplicates := sorted(state.keys() & tensors.keys()):
            raise FormatError(f"{path}: {summarize(duplicates)}: also in another file of the folder")
        state |= tensors
    state = unwrap(state, folder, _ROOTS)
    broken = [f"{name} is not finite" for name, tensor in state.items() if not tensor.isfinite().all()]
    config = ClapConfig.from_pretrained(folder, local_files_only=True)
    with _quiet_transformers():
        model, report = ClapModel.from_pretrained(
            None, config=config, state_dict=state, dtype=dtype, ignore_mismatched_sizes=True, output_loading_info=True
        )
    expected = model.state_dict()
    # Integers are constants (positions, indices) that the model makes itself and older files lack.
    missing = [f"{name} is missing" for name in sorted(report["missing_keys"]) if expected[name].is_floating_point()]
    unknown = [f"{name} is unknown" for name in sorted(report["unexpected_keys"])]
    misshapen = [
        f"{name} has shape {tuple(stored)}, expected {tuple(shape)}"
        for name, stored, shape in sorted(report["mismatched_keys"])
    ]
    if missing or unknown or misshapen or broken:
        problems = summarize(missing, unknown, misshapen, broken)
        raise FormatError(f"{folder}: its weights do not fit its config.json: {problems}")
    return model


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence the progress bar of `transformers` and its report of tensors that do not fit; our error says it."""
    from transformers.utils import logging

    verbosity, has_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bar:
            logging.enable_progress_bar()


def weight_files(folder: Path) -> list[Path]:
    """Return the files with the weights of the model in `folder`.

    Raises:
        FormatError: There are none, or their index is broken.
    """
    first = next((folder / name for name in WEIGHTS_FILES if (folder / name).is_file()), None)
    if first is None:
        raise FormatError(f"{folder}: has none of {', '.join(WEIGHTS_FILES)}")
    if first.suffix != ".json":
        return [first]
    weight_map = read_json(folder, first.name).get("weight_map")
    is_map = isinstance(weight_map, dict) and all(map(_is_file_name, weight_map.values()))
    names = set(weight_map.values()) if isinstance(weight_map, dict) and is_map else set()
    if not names:
        raise FormatError(f"{first}: has no weight_map with names of files in the same folder")
    return [folder / name for name in sorted(names)]


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise FormatError(f"{path}: not a dict of tensors by name")
    return state


def _is_file_name(name: object) -> bool:
    return isinstance(name, str) and name == Path(name).name
