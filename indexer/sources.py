"""What is to be indexed: folders, recordings, text files and manifests become a stream of items."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from clara_search.errors import FormatError
from indexer import manifests
from indexer.items import ColumnType, Item, Survey, text_lines

TEXT_SUFFIXES = frozenset({".txt"})
MANIFEST_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"})


def survey(sources: Sequence[str | Path], text_column: str | None = None) -> Survey:
    """Count the items of `sources` and type their columns, reading every manifest to its end.

    Raises FormatError, with file and line, where a source is missing or broken: before any work is spent on it.
    """
    count, columns = 0, dict[str, ColumnType]()
    for source in sources:
        path = absolute(source)
        if _is_manifest(path):
            found = manifests.survey(path, text_column)
            count += found.items
            for name, kind in found.columns.items():
                columns[name] = manifests.wider(columns.get(name), kind)
        else:
            count += sum(1 for _ in items([path]))
    return Survey(count, columns)


def items(sources: Sequence[str | Path], text_column: str | None = None) -> Iterator[Item]:
    """Yield the items of `sources` in order: folders (recursively), recordings, text files and manifests.

    Of a folder come the files with an audio suffix, sorted; hidden ones are left out and symbolic links not followed.
    A text file gives one item per line that is not blank, a manifest one per row. Raises FormatError as `survey` does.
    """
    from clara_search.audio import AUDIO_SUFFIXES

    for source in sources:
        path = absolute(source)
        if path.is_dir():
            yield from _folder(path, AUDIO_SUFFIXES)
        elif not path.exists():
            raise FormatError(f"{path}: no such file or folder")
        elif path.suffix.lower() in AUDIO_SUFFIXES:
            yield _listed(path, str(path))
        elif path.suffix.lower() in TEXT_SUFFIXES:
            yield from _text_file(path)
        elif _is_manifest(path):
            yield from manifests.items(path, text_column)
        else:
            kinds = ", ".join(sorted(MANIFEST_SUFFIXES | TEXT_SUFFIXES))
            raise FormatError(f"{path}: neither a folder, nor audio, nor a text file or manifest ({kinds})")


def absolute(path: str | Path) -> Path:
    """Return `path` absolute and without "..", symbolic links as they are."""
    return Path(os.path.normpath(Path(path).absolute()))


def _is_manifest(path: Path) -> bool:
    return path.suffix.lower() in MANIFEST_SUFFIXES and path.is_file()


def _folder(folder: Path, suffixes: frozenset[str]) -> Iterator[Item]:
    unreadable: list[OSError] = []
    for parent, folders, names in os.walk(folder, onerror=unreadable.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if name.startswith(".") or path.suffix.lower() not in suffixes or path.is_symlink():
                continue
            yield _listed(folder, str(path))
        while unreadable:
            error = unreadable.pop()
            yield Item(
                str(folder), "audio", str(error.filename), problem=f"the folder cannot be read: {error.strerror}"
            )


def _listed(folder: Path, uri: str) -> Item:
    try:
        uri.encode()
    except UnicodeEncodeError:
        readable = os.fsencode(uri).decode(errors="backslashreplace")
        return Item(readable, "audio", readable, problem="its name is not UTF-8: rename it")
    return Item(str(folder), "audio", uri)


def _text_file(path: Path) -> Iterator[Item]:
    found = False
    for number, line in enumerate(text_lines(path), start=1):
        if text := line.strip():
            found = True
            yield Item(str(path), "text", f"{path}#L{number}", number, text)
    if not found:
        raise FormatError(f"{path}: holds no text")
