"""Shards, written: a tar that has its name only when it is whole."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clara_search.files.atomic import whole


@contextmanager
def new_shard(path: Path) -> Iterator[tarfile.TarFile]:
    """Give a tar to write to; when all is written it takes the place of a file at `path`. Raises as `whole` does."""
    with whole(path) as partial, tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
        yield tar


def add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file `name` with `content`."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
