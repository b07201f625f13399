"""Checkpoints that torch pickled: tensors and plain values, which cost no more memory than their file has bytes.

`weights_only` runs no code, but a pickle of a few bytes can still ask for any amount of memory: `bytearray(10**10)`, a
set made of one list a million times, a compressed archive. So the opcodes are followed before torch reads them.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch

from clara_search.errors import FormatError, SourceError, first_line
from clara_search.files.limits import PICKLE_BYTES, TENSORS, WEIGHTS_BYTES
from clara_search.files.regular import open_regular, size_of

_OLD_PICKLES = 5
"""Before 1.6, torch wrote number, version, system, content and names of the tensors as pickles, one after the other."""

_CONTAINERS = frozenset({"OrderedDict", "Counter", "set", "Size"})
_GLOBALS = re.compile(
    r"collections (OrderedDict|Counter)|(__builtin__|builtins) (set|complex)"
    r"|torch (\w+Storage|Size|device|b?float\d+|complex\d+|u?int\d+|bool|float8_\w+)"
    r"|torch\._utils _rebuild_(tensor|tensor_v2|parameter|parameter_with_state)|torch\.nn\.parameter Parameter"
    r"|torch\._tensor _rebuild_from_type_v2|torch\.serialization _get_layout"
)
"""What tensors, dictionaries and plain values are made of."""

_LEAVES = frozenset(
    "NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINSTRING EMPTY_TUPLE".split()
)
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_TAKES = {"APPEND": 1, "SETITEM": 2, "BUILD": 1}

_MOST_COPIED = 1_000_000
"""Items that containers may take over from other ones."""


def read_checkpoint(path: Path) -> Any:
    """Return the content of a file that `torch.save` wrote; an archive's tensors are mapped, and read when used.

    Args:
        path: The file.

    Raises:
        SourceError: There is no such file.
        FormatError: It is broken, holds other things than tensors and plain values, or would take more memory than it
            has bytes.
    """
    try:
        is_archive = _check(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except FileNotFoundError as error:
        raise SourceError(f"{path}: there is no such file") from error
    except FormatError:
        raise
    except pickle.UnpicklingError as error:  # torch's own message recommends loading it unsafely
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        holds = f"it holds {foreign.group(1)}" if foreign else "it is damaged, or holds something else"
        raise _refused(path, holds) from error
    except Exception as error:  # torch raises nearly anything for a damaged file
        raise FormatError(f"{path}: not a checkpoint of tensors and plain values ({first_line(error)})") from error


def _refused(path: Path, holds: str) -> FormatError:
    return FormatError(f"{path}: not a checkpoint of tensors and plain values: {holds}")


def _check(path: Path) -> bool:
    """Check a file before torch reads it, and tell whether it is an archive."""
    with open_regular(path) as file:
        size = size_of(file, path, WEIGHTS_BYTES)
        is_archive = file.read(4) == b"PK\x03\x04"
        file.seek(0)
        contents = _archived_pickles(file, path, size) if is_archive else _old_pickles(file)
        for content in contents:
            _follow(content, path)
        return is_archive


def _archived_pickles(file: BinaryIO, path: Path, size: int) -> Iterator[io.BytesIO]:
    """Yield the pickles in an archive. Raises FormatError if one of its members is compressed."""
    _check_directory(file, path, size)
    with zipfile.ZipFile(file) as archive:
        TENSORS.check(len(archive.infolist()), path)
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED or member.file_size > size:
                raise _refused(path, "it is compressed, as torch writes none")
            if member.filename.endswith(".pkl"):
                PICKLE_BYTES.check(member.file_size, path)
                yield io.BytesIO(archive.read(member))


def _check_directory(file: BinaryIO, path: Path, size: int) -> None:
    """Check the number of members before all of them become objects."""
    start = max(0, size - (1 << 16) - 22)
    file.seek(start)
    end = file.read()
    at = end.rfind(b"PK\x05\x06")
    if at >= 0 and len(end) >= at + 22:
        count: int = struct.unpack_from("<H", end, at + 10)[0]
        if count == 0xFFFF and (wide := end.rfind(b"PK\x06\x06", 0, at)) >= 0 and len(end) >= wide + 40:
            count = struct.unpack_from("<Q", end, wide + 32)[0]
        TENSORS.check(count, path)
    file.seek(0)


def _old_pickles(file: BinaryIO) -> Iterator[io.BytesIO]:
    """Yield one stream, read on from pickle to pickle."""
    content = io.BytesIO(file.read(PICKLE_BYTES.value))
    for _ in range(_OLD_PICKLES):
        yield content


@dataclass(slots=True)
class _Value:
    """What is known of a value in a pickle: the number of its items, those of a tuple, or the global that it is."""

    size: int = 0
    items: list[_Value] = field(default_factory=list)
    name: str = ""


_LEAF = _Value()


def _follow(content: io.BytesIO, path: Path) -> None:
    """Follow the opcodes of a pickle. Raises FormatError for one that torch does not write, and for its bombs."""
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "GLOBAL" and not _GLOBALS.fullmatch(str(argument)):
                raise _refused(path, f"it holds {str(argument).replace(' ', '.')[:80]}")
            machine.step(opcode.name, argument)
            if machine.copied > _MOST_COPIED:
                raise _refused(path, "it copies the same values again and again")
    except (ValueError, IndexError, KeyError) as error:
        if content.tell() >= PICKLE_BYTES.value:
            raise PICKLE_BYTES.exceeded(path) from error
        raise _refused(path, "it is damaged, or holds something else") from error


class _Machine:
    """The stack of an unpickler, without the values.

    Attributes:
        copied: items that containers took over from other ones.
    """

    def __init__(self) -> None:
        self.copied = 0
        self._stack: list[_Value] = []
        self._outer: list[list[_Value]] = []
        self._memo: dict[int, _Value] = {}

    def step(self, name: str, argument: Any) -> None:
        """Do what an opcode does. Raises ValueError for one that torch does not read, IndexError without values."""
        stack = self._stack
        if name in _LEAVES:
            stack.append(_LEAF)
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name == "GLOBAL":
            stack.append(_Value(name=str(argument).rpartition(" ")[2]))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, called = stack.pop(), stack.pop()
            size = sum(item.size for item in arguments.items) if called.name in _CONTAINERS else 0
            self.copied += size
            stack.append(_Value(size))
        elif name in ("EMPTY_LIST", "EMPTY_DICT"):
            stack.append(_Value())
        elif name == "MARK":
            self._outer.append(stack)
            self._stack = []
        elif name in ("TUPLE", "APPENDS", "SETITEMS"):
            self._stack = self._outer.pop()
            if name == "TUPLE":
                self._stack.append(_Value(len(stack), stack))
            else:
                self._grow(len(stack))
        elif name in _TUPLES:
            items = [stack.pop() for _ in range(_TUPLES[name])]
            stack.append(_Value(len(items), items))
        elif name in ("APPEND", "SETITEM", "BUILD"):
            del stack[-_TAKES[name] :]
            self._grow(1)
        elif name == "BINPERSID":
            stack[-1] = _LEAF
        elif name not in ("PROTO", "STOP"):
            raise ValueError(name)

    def _grow(self, count: int) -> None:
        if self._stack[-1] is not _LEAF:
            self._stack[-1].size += count
