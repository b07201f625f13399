"""Shards, written: a tar that has its name only when it is whole."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clara_search.errors import FormatError


@contextmanager
def new_shard(path: Path) -> Iterator[tarfile.TarFile]:
    """Give a tar to write to; when all is written it takes the place of a file at `path`.

    Raises FormatError where it cannot be written, and for a path that is there and is no file.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        if path.exists() and not path.is_file():
            raise FormatError(f"{path}: is there, and is no file")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
            yield tar
        partial.replace(path)
    except OSError as error:
        raise FormatError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        if partial.is_file():
            partial.unlink()


def add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file `name` with `content`."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
