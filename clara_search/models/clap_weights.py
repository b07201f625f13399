"""The weights of a CLAP folder of `transformers`: which files hold them, and a model made of them alone."""

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
"""Where `transformers` looks for weights, in this order."""

_ROOTS = ("model", "clap")
"""Names under which a model that contains a CLAP has it."""


def load_clap(folder: Path, dtype: torch.dtype) -> Any:
    """Return the `ClapModel` in `folder`, every weight of which is from there.

    `transformers` itself fills what is missing with random numbers and ignores what is left over. What wrappers such as
    torch.compile add to names is stripped, and that is logged. Raises FormatError, naming it, for a tensor that is
    missing, unknown, of another shape or not finite.
    """
    from transformers import ClapConfig, ClapModel

    state: dict[str, Tensor] = {}
    for path in weight_files(folder):
        tensors = _read_tensors(path)
        if twice := sorted(state.keys() & tensors.keys()):
            raise FormatError(f"{path}: {summarize(twice)}: also in another file of the folder")
        state |= tensors
    state = unwrap(state, folder, _ROOTS)
    broken = [f"{name} is not finite" for name, tensor in state.items() if not tensor.isfinite().all()]
    config = ClapConfig.from_pretrained(folder, local_files_only=True)
    with _quiet_transformers():
        model, report = ClapModel.from_pretrained(
            None, config=config, state_dict=state, dtype=dtype, ignore_mismatched_sizes=True, output_loading_info=True
        )
    wanted = model.state_dict()
    # Integers are no weights but constants (positions, indices), which a model makes itself and older files lack.
    missing = [f"{name} is missing" for name in sorted(report["missing_keys"]) if wanted[name].is_floating_point()]
    unknown = [f"{name} is unknown" for name in sorted(report["unexpected_keys"])]
    misshapen = [
        f"{name} has shape {tuple(stored)}, expected {tuple(expected)}"
        for name, stored, expected in sorted(report["mismatched_keys"])
    ]
    if missing or unknown or misshapen or broken:
        problems = summarize(missing, unknown, misshapen, broken)
        raise FormatError(f"{folder}: not the weights of a CLAP model of its config.json: {problems}")
    return model


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep back the bar of `transformers`, and its table of what does not fit: an error says that."""
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
    """Return the files that hold the weights of the model in `folder`. Raises FormatError where there are none."""
    first = next((folder / name for name in WEIGHTS_FILES if (folder / name).is_file()), None)
    if first is None:
        raise FormatError(f"{folder}: holds none of {', '.join(WEIGHTS_FILES)}")
    if first.suffix != ".json":
        return [first]
    listed = read_json(folder, first.name).get("weight_map")
    names = set(listed.values()) if isinstance(listed, dict) and all(map(_is_name, listed.values())) else set()
    if not names:
        raise FormatError(f"{first}: has no weight_map of names of files beside it")
    return [folder / name for name in sorted(names)]


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise FormatError(f"{path}: not a state dict of tensors by name")
    return state


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name == Path(name).name
