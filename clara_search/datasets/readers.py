"""Readers of examples, one a layout: WebDataset shards, manifests, and folders with a text beside each recording.

A source is a path, a glob, a range such as `train-{00000..00099}.tar`, or the URL of anything that fsspec opens.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clara_search.audio.decode import AUDIO_SUFFIXES
from clara_search.datasets.example import Example
from clara_search.datasets.manifests import DEFAULT_COLUMNS, Manifest, ManifestColumns
from clara_search.datasets.metadata import parse_metadata
from clara_search.datasets.recordings import locate_row
from clara_search.datasets.shards import read_shard_examples
from clara_search.errors import ClaraError, FormatError, SourceError
from clara_search.files.json_reader import parse_json
from clara_search.files.limits import JSON_BYTES
from clara_search.files.paths import Unreachable, is_url, suffix_of
from clara_search.files.patterns import expand_pattern
from clara_search.files.regular import read_regular
from clara_search.files.shards import ByteRange, is_shard
from clara_search.files.tables import MANIFEST_SUFFIXES, OnError, raise_error


def read_examples(
    pattern: str | Path, report: OnError = raise_error, columns: ManifestColumns = DEFAULT_COLUMNS
) -> Iterator[Example]:
    """Yield the examples of every source that `pattern` names, in order of name.

    Args:
        pattern: Path, glob, range or URL of shards, manifests and folders.
        report: Called with the error of each example, or rest of a shard, that cannot be used; raises by default.
        columns: What the columns of manifests are, where that is not to be recognised.

    Raises:
        SourceError: No source matches, one is of an unknown kind, or one cannot be read.
        FormatError: A manifest is broken as a whole.
    """
    for path in expand_pattern(pattern):
        yield from read_source(path, report, columns)


def read_source(
    path: str, report: OnError = raise_error, columns: ManifestColumns = DEFAULT_COLUMNS
) -> Iterator[Example]:
    """Yield the examples of one shard, manifest or folder. Raises as `read_examples` does."""
    suffix = suffix_of(path)
    if not is_url(path) and Path(path).is_dir():
        yield from read_folder(Path(path), report)
    elif is_shard(path):
        yield from read_shard(path, report)
    elif suffix in MANIFEST_SUFFIXES:
        yield from read_manifest(path, report, columns)
    else:
        raise SourceError(f"{path}: expected a .tar shard, a {', '.join(MANIFEST_SUFFIXES)} manifest or a folder")


def read_shard(path: str | Path, report: OnError = raise_error, audio_member: str | None = None) -> Iterator[Example]:
    """Yield the examples of a WebDataset shard: for each key a recording and its text.

    Each example states where in the shard its audio lies, unless that is compressed. What cannot be used is reported,
    as `read_shard_examples` has it, and so is a part of the shard that cannot be read.

    Raises:
        Unreachable: The shard is a URL that cannot be read.
    """
    count, examples = 0, read_shard_examples(path, audio_member)
    while True:
        try:
            example = next(examples, None)
        except Unreachable:
            raise
        except ClaraError as error:
            rest = f"; all that follows recording {count} is missing" if count else ""
            report(type(error)(f"{error}{rest}"))
            return
        if example is None:
            return
        try:
            if example.problem is not None:
                raise FormatError(f"{path}: {example.problem}")
            if example.audio is None:
                raise FormatError(f"{path}: key {example.key!r} has no recording")
            metadata = parse_metadata(example.values, f"{path}: key {example.key!r}")
        except FormatError as error:
            report(error)
            continue
        count += 1
        audio = example.audio
        stored = None if audio.offset is None else ByteRange(str(path), audio.offset, audio.size)
        yield Example(key=example.key, audio=audio.content or b"", stored=stored, **metadata)


def read_manifest(
    path: str | Path, report: OnError = raise_error, columns: ManifestColumns = DEFAULT_COLUMNS
) -> Iterator[Example]:
    """Yield the examples of a manifest: a table of recordings and their texts, as `Manifest` reads it.

    Rows of one recording with several texts are one example. Further columns may be any of `METADATA_FIELDS`. Parquet
    and Arrow files may hold the recordings themselves. A broken row is reported.

    Raises:
        FormatError: The table is broken as a whole, or has no recordings or no texts.
        ConfigError: Several columns could name the recordings.
        SourceError: It cannot be read; `Unreachable` where it is a URL.
    """
    manifest = Manifest(str(path), columns)
    manifest.require("recordings", "texts")
    for row in manifest.rows(report):
        where = f"{path}, line {row.line}"
        try:
            key, audio = locate_row(str(path), row, where)
            values = {**row.columns, "text": list(row.texts), "language": row.language}
            metadata = parse_metadata(values, where)
        except FormatError as error:
            report(error)
        else:
            content = audio.read() if not isinstance(audio, (str, Path)) else audio
            yield Example(key=key, audio=content, start_s=row.start_s, end_s=row.end_s, **metadata)


def read_folder(folder: Path, report: OnError = raise_error) -> Iterator[Example]:
    """Yield the recordings in `folder` and below, in order of name, each with the .txt or .json of its name.

    A recording with neither is reported.
    """
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in AUDIO_SUFFIXES or not path.is_file():
            continue
        text, json_path = path.with_suffix(".txt"), path.with_suffix(".json")
        try:
            if json_path.is_file():
                metadata = _json_metadata(read_regular(json_path, JSON_BYTES), str(json_path))
            elif text.is_file():
                metadata = parse_metadata({"text": text.read_text(encoding="utf-8").strip()}, str(text))
            else:
                raise FormatError(f"{path}: has no {text.name} or {json_path.name} beside it")
        except FormatError as error:
            report(error)
        except (OSError, UnicodeDecodeError) as error:
            report(SourceError(f"{text}: cannot be read ({error})"))
        else:
            yield Example(key=path.relative_to(folder).as_posix(), audio=path, **metadata)


def _json_metadata(content: bytes, where: str) -> dict[str, Any]:
    values = parse_json(content, where, is_row=True)
    return parse_metadata(values if isinstance(values, dict) else {}, where)
