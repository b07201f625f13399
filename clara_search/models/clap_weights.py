"""Weights of a CLAP folder of `transformers`: their files, and a model made of them alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clara_search.errors import FormatError
from clara_search.files.limits import FFT_SAMPLES, FRAME_NUMBERS, FRAMES_PER_SECOND
from clara_search.models.folder import CONFIG_FILE, read_json
from clara_search.models.state_dict import summarize, unwrap
from clara_search.models.stored.pickled import read_checkpoint
from clara_search.models.stored.strict_loading import check_shared, check_size, is_finite, read_tensors

WEIGHTS_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
"""Files in which `transformers` looks for weights, in this order."""

FEATURES_FILE = "preprocessor_config.json"

_MOST_LAYERS, _MOST_NUMBERS, _HIGHEST_NUMBER = 200, 100_000, 10_000_000
_BOUNDS = {
    **dict.fromkeys(("depths", "num_hidden_layers", "num_projection_layers"), _MOST_LAYERS),
    **dict.fromkeys(("num_mel_bins", "feature_size"), 1024),
    **dict.fromkeys(("window_size", "patch_size", "patch_stride", "num_classes", "aff_block_r"), 1024),
    **dict.fromkeys(("spec_size", "max_length_s"), 4096),
    "max_position_embeddings": 1 << 14,
}
"""Highest values of settings that cost time or memory before a weight is asked for; HTSAT has 256 at most."""

_SPARE_NUMBERS = 10_000_000
"""Weights that may be missing: they are reported one by one."""

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
        check_shared(tensors, path)
        state |= tensors
    state = unwrap(state, folder, _ROOTS)
    config = ClapConfig.from_dict(read_config(folder))
    with torch.device("meta"):
        skeleton = ClapModel(config)
    check_size(skeleton, folder / CONFIG_FILE)
    stored, expected_numbers = (sum(x.numel() for x in some) for some in (state.values(), skeleton.parameters()))
    if expected_numbers > stored + _SPARE_NUMBERS:
        raise FormatError(f"{folder}: its config.json asks for {expected_numbers:,} weights, its files have {stored:,}")
    broken = [f"{name} is not finite" for name, tensor in state.items() if not is_finite(tensor)]
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


def read_config(folder: Path) -> dict[str, Any]:
    """Return the configuration in `folder`, whose numbers a model can be made of.

    Raises:
        FormatError: It is broken, or one of its numbers is out of bounds.
    """
    values = read_json(folder)
    _check_numbers(values, folder / CONFIG_FILE, "")
    return values


def read_features(folder: Path) -> dict[str, Any]:
    """Return the settings of the log-mel in `folder`, which can be computed. Raises FormatError as `read_config`."""
    path, values = folder / FEATURES_FILE, read_json(folder, FEATURES_FILE)
    _check_numbers(values, path, "")
    defaults = {"feature_size": 64, "sampling_rate": 48_000, "hop_length": 480, "max_length_s": 10}
    bands, rate, hop, length_s = (values.get(name, default) for name, default in defaults.items())
    if not all(isinstance(number, int | float) and number >= 1 for number in (bands, rate, hop, length_s)):
        raise FormatError(f"{path}: {', '.join(defaults)} must be positive numbers")
    FFT_SAMPLES.check(values.get("fft_window_size", 1024), path)
    FRAMES_PER_SECOND.check(rate / hop, path)
    FRAME_NUMBERS.check(rate / hop * bands, path)
    return values


def _check_numbers(value: Any, path: Path, name: str) -> None:
    """Raise FormatError for a number of a configuration that is out of bounds, wherever it is in it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_numbers(inner, path, str(key))
    elif isinstance(value, list):
        most = _MOST_LAYERS if name == "depths" else _MOST_NUMBERS
        if len(value) > most:
            raise FormatError(f"{path}: {name[:80]} has {len(value):,} values, where at most {most:,} are expected")
        for inner in value:
            _check_numbers(inner, path, name)
    elif isinstance(value, int | float) and value > _BOUNDS.get(name, _HIGHEST_NUMBER):
        raise FormatError(f"{path}: {name[:80]} must be at most {_BOUNDS.get(name, _HIGHEST_NUMBER):,}, got {value:,}")


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
        return read_tensors(path)
    state = read_checkpoint(path)
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise FormatError(f"{path}: not a dict of tensors by name")
    return state


def _is_file_name(name: object) -> bool:
    return isinstance(name, str) and name == Path(name).name
