"""Folders of this machine and of stores, listed."""

from __future__ import annotations

import operator
import os
from pathlib import Path
from typing import NamedTuple

from clara_search.files.network.stores import ask_store
from clara_search.files.paths import FileStat, is_url, join, resolve_filesystem, stat_from_info

NO_SUFFIX = "without a suffix"
"""The kind of files whose names have none, where kinds are counted."""


class FolderEntry(NamedTuple):
    """An entry of a folder: its name, its path or URL, and its size and token if the listing has them."""

    name: str
    path: str
    is_folder: bool
    is_link: bool = False
    stat: FileStat | None = None


def list_folder(path: str | Path) -> list[FolderEntry]:
    """Return the entries of a folder or URL, sorted by name; none of them is the folder itself.

    An entry without a name stands for keys with an empty part, such as "a//b.wav", which no store can be asked to list.

    Raises:
        OSError: it cannot be listed completely.
        SourceError: no client is installed that knows the protocol.
    """
    if not is_url(path):
        with os.scandir(path) as entries:
            return sorted(map(_local_entry, entries), key=_name)
    filesystem, folder = resolve_filesystem(path)
    prefix, listed = folder.rstrip("/") + "/", list[FolderEntry]()
    for info in ask_store(path, lambda: filesystem.ls(folder, detail=True)):
        key = str(info["name"]).rstrip("/")
        if key == folder.rstrip("/"):
            # Some stores list a mark of the folder itself, which is a file; a folder in it is one without a name.
            if info["type"] == "directory" and str(info["name"]).endswith("/"):
                listed.append(FolderEntry("", join(path, "/"), True))
        else:
            name = key.removeprefix(prefix) if key.startswith(prefix) else key.rpartition("/")[2]
            listed.append(
                FolderEntry(
                    name, join(path, name), info["type"] == "directory", bool(info.get("islink")), stat_from_info(info)
                )
            )
    return sorted(listed, key=_name)


def clear_listing_cache(url: str) -> None:
    """Drop cached listings, so that the next one of `url` asks its store."""
    resolve_filesystem(url)[0].invalidate_cache()


_name = operator.attrgetter("name")


def _local_entry(entry: os.DirEntry[str]) -> FolderEntry:
    try:
        is_folder = entry.is_dir()
    except OSError:  # a link in a circle
        is_folder = False
    return FolderEntry(entry.name, entry.path, is_folder, entry.is_symlink())
