"""One reader a layout: WebDataset shards and manifests, both as streams of `Example`."""

from __future__ import annotations

import csv
import glob
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clara_search.audio import AUDIO_SUFFIXES
from clara_search.datasets.spec import METADATA_FIELDS, Example
from clara_search.errors import FormatError


def read(pattern: str | Path) -> Iterator[Example]:
    """Yield the examples of every file that matches `pattern`, in order of name.

    `pattern` is a path or a glob of `.tar` shards or `.csv` manifests. Raises FormatError where nothing matches or a
    file is broken.
    """
    for path in matching(pattern):
        if path.suffix == ".tar":
            yield from read_shard(path)
        elif path.suffix == ".csv":
            yield from read_manifest(path)
        else:
            raise FormatError(f"{path}: expected a .tar shard or a .csv manifest")


def matching(pattern: str | Path) -> list[Path]:
    """Return the files that match `pattern`, in order of name. Raises FormatError where there are none."""
    paths = sorted(glob.glob(str(pattern)))  # noqa: PTH207 - an absolute pattern is allowed
    if not paths:
        raise FormatError(f"no file matches {str(pattern)!r}")
    return [Path(path) for path in paths]


def read_shard(path: Path) -> Iterator[Example]:
    """Yield the examples of a WebDataset shard: for each key an audio file and a JSON file, paired by key.

    Members of a key are expected together, as the format has it, in either order. Raises FormatError for a key with
    one half missing or broken JSON.
    """
    try:
        with tarfile.open(path) as archive:
            pending: tuple[str, dict[str, bytes]] = ("", {})
            for member in archive:
                if not member.isfile():
                    continue
                folder, slash, base = member.name.rpartition("/")
                stem, _, suffix = base.partition(".")  # as WebDataset has it: everything behind the first dot
                key = folder + slash + stem
                if key != pending[0]:
                    if pending[1]:
                        yield _example(path, *pending)
                    pending = (key, {})
                content = archive.extractfile(member)
                assert content is not None  # isfile() said so
                pending[1]["." + suffix.lower()] = content.read()
            if pending[1]:
                yield _example(path, *pending)
    except (tarfile.TarError, OSError) as error:
        raise FormatError(f"{path}: not a readable tar shard ({error})") from error


def read_manifest(path: Path) -> Iterator[Example]:
    """Yield the examples of a CSV manifest: columns `path` (relative to it) and `text`, and any of Example's."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            missing = {"path", "text"} - set(rows.fieldnames or ())
            if missing:
                raise FormatError(f"{path}: the manifest has no column {' and no column '.join(sorted(missing))}")
            for row in rows:
                yield Example(key=row["path"], audio=path.parent / row["path"], **_metadata(row))
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise FormatError(f"{path}: not a readable CSV manifest ({error})") from error


def _example(path: Path, key: str, members: dict[str, bytes]) -> Example:
    audio = [content for suffix, content in members.items() if suffix in AUDIO_SUFFIXES]
    if len(audio) != 1 or ".json" not in members:
        raise FormatError(f"{path}: {key} needs one audio file and one .json, found {', '.join(sorted(members))}")
    try:
        metadata = json.loads(members[".json"])
    except ValueError as error:
        raise FormatError(f"{path}: {key}.json is broken ({error})") from error
    if not isinstance(metadata, dict) or not isinstance(metadata.get("text"), str):
        raise FormatError(f"{path}: {key}.json has no text")
    return Example(key=key, audio=audio[0], **_metadata(metadata))


def _metadata(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in METADATA_FIELDS if row.get(name) not in (None, "")}
