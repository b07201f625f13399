"""Makers of hostile files; each is small, or nearly all holes, and asks for gigabytes, for ever, or for a crash."""

from __future__ import annotations

import base64
import io
import json
import pickle
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from clara_search.models.registry import WEIGHTS
from tests.helpers import PARITY

BUNDLED = WEIGHTS / "clara-small"


def model(folder: Path, **changed: Callable[[Path], None]) -> Path:
    """Make a folder of links to the bundled model's files; a changed file is a copy that a function changes.

    Args:
        folder: The folder to make.
        **changed: Functions by the name of their file, its "." spelt "__".
    """
    folder.mkdir()
    for path in BUNDLED.iterdir():
        (folder / path.name).symlink_to(path)
    for name, change in changed.items():
        path = folder / name.replace("__", ".")
        path.unlink()
        shutil.copy(BUNDLED / path.name, path)
        change(path)
    return folder


def edit(**values: Any) -> Callable[[Path], None]:
    """Return a function that sets values of a JSON file; "a__b" is `b` in the object `a`."""

    def change(path: Path) -> None:
        content = json.loads(path.read_text())
        for name, value in values.items():
            *parents, last = name.split("__")
            inner = content
            for parent in parents:
                inner = inner[parent]
            inner[last] = value
        path.write_text(json.dumps(content))

    return change


def write(content: bytes | str) -> Callable[[Path], None]:
    """Return a function that writes a file."""
    return lambda path: path.write_bytes(content.encode() if isinstance(content, str) else content) and None


def safetensors(shapes: Mapping[str, tuple[int, ...]], held: int = 0) -> bytes:
    """Return a safetensors file whose header declares float16 tensors, and which holds `held` bytes of them."""
    header, at = dict[str, Any](), 0
    for name, shape in shapes.items():
        size = 2 * int(torch.Size(shape).numel())
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(held)


def sparse_weights(path: Path) -> None:
    """Write the header of a model whose vocabulary has 4 GB, and holes for all its tensors."""
    from clara_search.config import from_mapping
    from clara_search.models.clara.config import ClaraConfig
    from clara_search.models.clara.towers import Clara

    values = json.loads((path.parent / "config.json").read_text())
    del values["model_type"], values["format_version"]
    with torch.device("meta"):
        module = Clara(from_mapping(ClaraConfig, values, "x"))
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    content = safetensors(shapes)
    path.write_bytes(content)
    with path.open("r+b") as file:
        file.truncate(len(content) + sum(2 * int(torch.Size(shape).numel()) for shape in shapes.values()))


def deflated(path: Path) -> Path:
    """Write a checkpoint of a gigabyte of zeros, whose archive is compressed."""
    plain = io.BytesIO()
    torch.save({"hyper_parameters": {}, "state_dict": {"x": torch.zeros(1 << 24)}}, plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    return path


def pickled(path: Path, content: bytes) -> Path:
    """Write an archive of torch whose pickle is `content`."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return path


GIB_OF_ZEROS = b"\x80\x02cbuiltins\nbytearray\n\x8a\x05" + pickle.encode_long(1 << 34) + b"\x85R."
"""`bytearray(2**34)`."""

COPIES = b"\x80\x02cbuiltins\nset\nq\x00](" + b"".join(b"M" + struct.pack("<H", n) for n in range(50_000)) + b"eq\x01]("
COPIES += b"h\x00h\x01\x85R" * 20_000 + b"e."
"""20,000 sets made of one list of 50,000 numbers."""


def sparse_tar(path: Path) -> Path:
    """Write a shard with a member of 6 GB, in PAX's sparse format, in ten kilobytes."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("GNUSparseFile.0/a.json")
        body = b"1\n0\n4\n".ljust(512, b"\0") + b"data"
        info.size = len(body)
        info.pax_headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": "a.json",
            "GNU.sparse.realsize": str(6 << 30),
        }
        tar.addfile(info, io.BytesIO(body))
    return path


def tar_of(path: Path, headers: Mapping[str, str], kind: bytes = tarfile.REGTYPE, count: int = 1) -> Path:
    """Write a shard of members with PAX headers."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for _ in range(count):
            info = tarfile.TarInfo("a.txt")
            info.type, info.pax_headers = kind, dict(headers)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"text"))
    return path


def charsmap(units: list[int], texts: bytes) -> str:
    """Return a character map as a tokenizer holds it."""
    return base64.b64encode(struct.pack(f"<I{len(units)}I", 4 * len(units), *units) + texts).decode()


def expanded(path: Path) -> Path:
    """Write a released checkpoint with embeddings of gigabytes, which are one row, expanded."""
    content = torch.load(PARITY / "clara-small-random.ckpt", weights_only=True)
    weight = content["state_dict"]["model.text_embedding.weight"]
    content["state_dict"]["model.text_embedding.weight"] = weight[:1].clone().expand(9_000_000, weight.shape[1])
    content["hyper_parameters"]["vocab_size"] = 9_000_000
    torch.save(content, path)
    return path


def wav_header(path: Path, channels: int, rate: int) -> Path:
    """Write a WAV file of a second of zeros, with any number of channels and any rate in its header."""
    block = 2 * channels & 0xFFFF
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * block & 0xFFFFFFFF, block, 16)
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", 1 << 18) + bytes(1 << 18)
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def holes(path: Path, size: int = 5 << 30) -> Path:
    """Write a file that is all hole."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def with_base_path(version: bytes, base: str, before: bytes = b"") -> bytes:
    """Return a version of a table that names `base` as a base path, behind its own fields and those of `before`."""
    position = struct.unpack_from("<q", version, len(version) - 16)[0]
    (length,) = struct.unpack_from("<I", version, position)
    path = base.encode()
    # Field 18: a message whose id is 1 and whose path is field 4.
    added = b"\x92\x01" + bytes([len(path) + 4]) + b"\x18\x01\x22" + bytes([len(path)]) + path
    message = before + version[position + 4 : position + 4 + length] + added
    return version[:position] + struct.pack("<I", len(message)) + message + version[position + 4 + length :]
