"""One reader a layout: WebDataset shards, manifests and folders with texts beside, all as streams of `Example`.

A place is a path, a glob, a brace pattern such as `train-{00000..00099}.tar`, or the URL of anything that fsspec opens.
"""

from __future__ import annotations

import csv
import glob
import io
import json
import re
import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet

from clara_search.audio import AUDIO_SUFFIXES
from clara_search.datasets.spec import METADATA_FIELDS, Example, Stored
from clara_search.errors import FormatError
from clara_search.places import is_url, opened

Report = Callable[[FormatError], None]
"""What is done with an example, or the rest of a file, that cannot be read."""

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MANIFESTS = (".csv", ".jsonl", ".parquet")


def _raise(error: FormatError) -> None:
    raise error


def read(pattern: str | Path, report: Report = _raise) -> Iterator[Example]:
    """Yield the examples of every place that `pattern` names, in order of name.

    Raises FormatError where there is none, or one of another kind. What is broken inside is given to `report`, which
    raises it unless something else is asked for, and stepped over.
    """
    for place in matching(pattern):
        suffix = Path(place).suffix.lower()
        if suffix == ".tar":
            yield from read_shard(place, report)
        elif suffix in _MANIFESTS:
            yield from read_manifest(place, report)
        elif not is_url(place) and Path(place).is_dir():
            yield from read_folder(Path(place), report)
        else:
            raise FormatError(f"{place}: expected a .tar shard, a {', '.join(_MANIFESTS)} manifest or a folder")


def matching(pattern: str | Path) -> list[str]:
    """Return the places that `pattern` names, in order of name. Raises FormatError where a path has none."""
    found: list[str] = []
    for name in _expanded(str(pattern)):
        paths = [name] if is_url(name) else sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - an absolute one is allowed
        if not paths:
            raise FormatError(f"no file matches {name!r}")
        found += paths
    return found


def _expanded(pattern: str) -> list[str]:
    """Return `pattern` for each number of its `{00..99}`, zeros kept."""
    match = _RANGE.search(pattern)
    if match is None:
        return [pattern]
    first, last = match.groups()
    numbers = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return [
        name for number in numbers for name in _expanded(pattern[: match.start()] + number + pattern[match.end() :])
    ]


def read_shard(place: str | Path, report: Report = _raise) -> Iterator[Example]:
    """Yield the examples of a WebDataset shard: for each key an audio file and a JSON file, paired by key.

    Members of a key are expected together, as the format has it, in either order; each example says where in the shard
    its audio lies. A key with one half missing or broken JSON, and the rest of a shard that is cut off, are reported.
    """
    groups = grouped(place)
    while True:
        try:
            group = next(groups, None)
        except FormatError as error:
            report(error)
            return
        if group is None:
            return
        try:
            example = _example(place, *group)
        except FormatError as error:
            report(error)
        else:
            yield example


class Member(NamedTuple):
    """A file in a shard: where its bytes lie, and the bytes, unless they were skipped."""

    content: bytes | None
    offset: int
    size: int


_Members = dict[str, Member]


def grouped(place: str | Path, skip: Collection[str] | None = None) -> Iterator[tuple[str, _Members]]:
    """Yield, for each example of a shard, its key and its members by suffix; it is read once, from front to end.

    With `skip`, which a shard of this machine allows, members with these suffixes are stepped over and not read.
    Raises FormatError where the shard is no tar, or is cut off.
    """
    pending: tuple[str, _Members] = ("", {})
    try:
        with opened(place) as file, tarfile.open(fileobj=file, mode="r|" if skip is None else "r:") as archive:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # or all headers of a shard stay in memory
                if not member.isfile():
                    continue
                key, suffix = _key_and_suffix(member.name)
                if key != pending[0]:
                    if pending[1]:
                        yield pending
                    pending = (key, {})
                content = None
                if skip is None or suffix not in skip:
                    reader = archive.extractfile(member)
                    assert reader is not None  # isfile() said so
                    content = reader.read()
                pending[1][suffix] = Member(content, member.offset_data, member.size)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise FormatError(f"{place}: not a readable tar shard ({error})") from error
    if pending[1]:
        yield pending


def _key_and_suffix(name: str) -> tuple[str, str]:
    """Return the two parts of a member's name as WebDataset has it: the suffix is everything behind the first dot."""
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return folder + slash + stem, "." + suffix.lower()


def _example(place: str | Path, key: str, members: _Members) -> Example:
    audio = [member for suffix, member in members.items() if suffix in AUDIO_SUFFIXES]
    if len(audio) != 1 or ".json" not in members:
        raise FormatError(f"{place}: {key} needs one audio file and one .json, found {', '.join(sorted(members))}")
    metadata = _parsed(members[".json"].content or b"", f"{place}: {key}.json")
    stored = Stored(str(place), audio[0].offset, audio[0].size)
    return Example(key=key, audio=audio[0].content or b"", stored=stored, **metadata)


def read_manifest(place: str | Path, report: Report = _raise) -> Iterator[Example]:
    """Yield the examples of a CSV, JSON-lines or Parquet manifest with columns `path`, relative to it, and `text`.

    Further columns may be any of Example's. A row without one of these two is reported.
    Raises FormatError for a CSV or Parquet that has no such column.
    """
    base = Path(place).parent
    for number, row in enumerate(rows(place, ("path", "text")), start=1):
        try:
            metadata = _metadata(row, f"{place}: row {number}")
            if not isinstance(row.get("path"), str) or not row["path"]:
                raise FormatError(f"{place}: row {number} has no path")
        except FormatError as error:
            report(error)
            continue
        audio = Path(row["path"]) if is_url(place) else base / row["path"]
        yield Example(key=row["path"], audio=audio, **metadata)


def rows(place: str | Path, needed: Sequence[str] = ("path",)) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a CSV, JSON-lines or Parquet manifest, as they stand.

    Raises FormatError for a file that is none, and for a CSV or Parquet without the columns `needed`.
    """
    try:
        yield from _rows(str(place), needed)
    except (UnicodeDecodeError, csv.Error, OSError, pa.ArrowException, json.JSONDecodeError) as error:
        raise FormatError(f"{place}: not a readable manifest ({error})") from error


def _rows(place: str, needed: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    suffix = Path(place).suffix.lower()
    with opened(place) as file:
        if suffix == ".parquet":
            table = pa.parquet.ParquetFile(file)
            _check_columns(place, table.schema_arrow.names, needed)
            for batch in table.iter_batches(batch_size=1024):
                yield from batch.to_pylist()
            return
        lines = io.TextIOWrapper(file, encoding="utf-8", newline="")
        if suffix == ".csv":
            cells = csv.DictReader(lines)
            _check_columns(place, cells.fieldnames or (), needed)
            yield from cells
        else:
            for line in lines:
                if line.strip():
                    row = json.loads(line)
                    yield row if isinstance(row, dict) else {}


def _check_columns(place: str, names: Iterable[str], needed: Sequence[str]) -> None:
    missing = set(needed) - set(names)
    if missing:
        raise FormatError(f"{place}: the manifest has no column {' and no column '.join(sorted(missing))}")


def read_folder(folder: Path, report: Report = _raise) -> Iterator[Example]:
    """Yield the recordings of `folder` and those below it, in order of name, each with the .txt or .json of its name.

    A recording with neither is reported.
    """
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in AUDIO_SUFFIXES or not path.is_file():
            continue
        text, metadata = path.with_suffix(".txt"), path.with_suffix(".json")
        try:
            if metadata.is_file():
                known = _parsed(metadata.read_bytes(), str(metadata))
            elif text.is_file():
                known = _metadata({"text": text.read_text(encoding="utf-8").strip()}, str(text))
            else:
                raise FormatError(f"{path}: has no {text.name} or {metadata.name} beside it")
        except FormatError as error:
            report(error)
        except (OSError, UnicodeDecodeError) as error:
            report(FormatError(f"{text}: cannot be read ({error})"))
        else:
            yield Example(key=path.relative_to(folder).as_posix(), audio=path, **known)


def stored_bytes(stored: Stored) -> bytes:
    """Return the bytes of a member of a shard; a shard behind a URL is brought here whole, once."""
    place = f"filecache::{stored.place}" if is_url(stored.place) else stored.place
    with opened(place) as file:
        file.seek(stored.offset)
        return file.read(stored.size)


def content_of(audio: Path | Stored) -> bytes:
    """Return the bytes of a recording's file, wherever it lies."""
    return stored_bytes(audio) if isinstance(audio, Stored) else audio.read_bytes()


def _parsed(content: bytes, where: str) -> dict[str, Any]:
    try:
        metadata = json.loads(content)
    except ValueError as error:
        raise FormatError(f"{where} is broken ({error})") from error
    return _metadata(metadata if isinstance(metadata, dict) else {}, where)


def _metadata(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return what `row` says of an example; `text` may be a list, and CLARA's shards nest the language."""
    texts = row.get("text")
    texts = [text for text in (texts if isinstance(texts, list) else [texts]) if isinstance(text, str) and text.strip()]
    if not texts:
        raise FormatError(f"{where} has no text")
    found = {name: row[name] for name in METADATA_FIELDS if row.get(name) not in (None, "")}
    original = row.get("original_data")
    if isinstance(original, Mapping) and isinstance(original.get("language"), str):
        found.setdefault("language", original["language"])
        found.setdefault("text_language", original["language"])
    return {**found, "text": texts[0], "alternatives": tuple(texts[1:])}
