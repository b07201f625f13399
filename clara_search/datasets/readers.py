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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
import pyarrow as pa
import pyarrow.parquet

from clara_search.audio import AUDIO_SUFFIXES
from clara_search.datasets.spec import METADATA_FIELDS, Example, Stored
from clara_search.errors import FormatError

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
        elif "://" not in place and Path(place).is_dir():
            yield from read_folder(Path(place), report)
        else:
            raise FormatError(f"{place}: expected a .tar shard, a {', '.join(_MANIFESTS)} manifest or a folder")


def matching(pattern: str | Path) -> list[str]:
    """Return the places that `pattern` names, in order of name. Raises FormatError where a path has none."""
    found: list[str] = []
    for name in _expanded(str(pattern)):
        paths = [name] if "://" in name else sorted(glob.glob(name))  # noqa: PTH207 - an absolute one is allowed
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
    try:
        with _opened(place) as file, tarfile.open(fileobj=file, mode="r|") as archive:
            for key, members in _grouped(archive):
                try:
                    yield _example(place, key, members)
                except FormatError as error:
                    report(error)
    except (tarfile.TarError, OSError, EOFError) as error:
        report(FormatError(f"{place}: not a readable tar shard ({error})"))


_Members = dict[str, tuple[bytes, Stored]]


def _grouped(archive: tarfile.TarFile) -> Iterator[tuple[str, _Members]]:
    """Yield the key and, by suffix, the content and place of members that stand together."""
    pending: tuple[str, _Members] = ("", {})
    for member in archive:
        if not member.isfile():
            continue
        folder, slash, base = member.name.rpartition("/")
        stem, _, suffix = base.partition(".")  # as WebDataset has it: everything behind the first dot
        key = folder + slash + stem
        if key != pending[0]:
            if pending[1]:
                yield pending
            pending = (key, {})
        content = archive.extractfile(member)
        assert content is not None  # isfile() said so
        pending[1]["." + suffix.lower()] = content.read(), Stored("", member.offset_data, member.size)
    if pending[1]:
        yield pending


def _example(place: str | Path, key: str, members: _Members) -> Example:
    audio = [content for suffix, content in members.items() if suffix in AUDIO_SUFFIXES]
    if len(audio) != 1 or ".json" not in members:
        raise FormatError(f"{place}: {key} needs one audio file and one .json, found {', '.join(sorted(members))}")
    metadata = _parsed(members[".json"][0], f"{place}: {key}.json")
    content, stored = audio[0]
    return Example(key=key, audio=content, stored=stored._replace(place=str(place)), **metadata)


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
        audio = Path(row["path"]) if "://" in str(place) else base / row["path"]
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
    with _opened(place) as file:
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
    remote = "://" in stored.place
    with fsspec.open(f"filecache::{stored.place}" if remote else stored.place, "rb") as file:
        file.seek(stored.offset)
        content: bytes = file.read(stored.size)
    return content


def content_of(audio: Path | Stored) -> bytes:
    """Return the bytes of a recording's file, wherever it lies."""
    return stored_bytes(audio) if isinstance(audio, Stored) else audio.read_bytes()


def _opened(place: str | Path) -> BinaryIO:
    try:
        return cast(BinaryIO, fsspec.open(str(place), "rb").open())
    except (ImportError, ValueError) as error:  # a protocol that nobody speaks here
        raise FormatError(f"{place}: cannot be opened ({error})") from error


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
