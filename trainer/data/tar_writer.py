"""Shards, written: a tar that has its name only when it is whole."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clara_search.files.atomic import atomic_path


@contextmanager
def open_shard(path: Path) -> Iterator[tarfile.TarFile]:
    """Open a tar for writing that replaces the file at `path` once it is complete. Raises as `atomic_path` does."""
    with atomic_path(path) as partial, tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
        yield tar


def add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file `name` with `content`."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
