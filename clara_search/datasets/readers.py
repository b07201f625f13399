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
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet

from clara_search.audio.decode import AUDIO_SUFFIXES
from clara_search.datasets.example import METADATA_FIELDS, ByteRange, Example
from clara_search.errors import ClaraError, FormatError, SourceError, first_line
from clara_search.files.gate import ForeignUri, admit
from clara_search.files.paths import is_url, key_and_suffix, open_binary, open_cached_copy

OnError = Callable[[ClaraError], None]
"""What is done with an example, or the rest of a file, that cannot be read."""

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
MANIFEST_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
"""Suffixes of the files that `read_manifest` reads."""

_LONGEST_FIELD = 1 << 24  # of a CSV, in characters
_TEXTS = tuple(name for name in METADATA_FIELDS if name not in ("text", "alternatives"))
_KINDS = {kind: kind for kind in ("speech", "sound", "music")}
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "balanced_train", "unbalanced_train"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev", "development"), "valid"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
"""What collections call their splits, in lower case, and what we do; "dev" is tuned on, "eval" reported."""


def _raise(error: ClaraError) -> None:
    raise error


def read_examples(pattern: str | Path, report: OnError = _raise) -> Iterator[Example]:
    """Yield the examples of every place that `pattern` names, in order of name.

    Raises SourceError where there is none, or one of another kind. What is broken inside is given to `report`, which
    raises it unless something else is asked for, and stepped over.
    """
    for place in expand_pattern(pattern):
        yield from read_source(place, report)


def read_source(place: str, report: OnError = _raise) -> Iterator[Example]:
    """Yield the examples of one place, as `read_examples` does."""
    suffix = Path(place).suffix.lower()
    if not is_url(place) and Path(place).is_dir():
        yield from read_folder(Path(place), report)
    elif suffix == ".tar":
        yield from read_shard(place, report)
    elif suffix in MANIFEST_SUFFIXES:
        yield from read_manifest(place, report)
    else:
        raise SourceError(f"{place}: expected a .tar shard, a {', '.join(MANIFEST_SUFFIXES)} manifest or a folder")


def expand_pattern(pattern: str | Path) -> list[str]:
    """Return the places that `pattern` names, in order of name. Raises SourceError where a path has none."""
    found: list[str] = []
    for name in expand_ranges(pattern):
        paths = [name] if is_url(name) else sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - it may be absolute
        if not paths:
            raise SourceError(f"no file matches {name!r}")
        found += paths
    return found


def expand_ranges(pattern: str | Path) -> list[str]:
    """Return `pattern` for each number of its ranges `{00..99}`. Raises SourceError for a range that is empty."""
    names = _expanded(str(pattern))
    if not names:
        raise SourceError(f"{pattern}: the range is empty, and names nothing")
    return names


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


class Unreachable(SourceError):
    """A URL that cannot be read now: nothing is known of what it holds."""


def read_shard(place: str | Path, report: OnError = _raise) -> Iterator[Example]:
    """Yield the examples of a WebDataset shard: for each key an audio file and a JSON file, paired by key.

    Members of a key are expected together, as the format has it, in either order; each example says where in the shard
    its audio lies. A key with one half missing or broken JSON, and the rest of a shard that is cut off, are reported.
    Raises Unreachable for a URL that cannot be read.
    """
    count, groups = 0, group_members(place)
    while True:
        try:
            group = next(groups, None)
        except Unreachable:
            raise
        except ClaraError as error:
            behind = f"; all that follows recording {count} is missing" if count else ""
            report(type(error)(f"{error}{behind}"))
            return
        if group is None:
            return
        count += 1
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


def group_members(place: str | Path, skip: Collection[str] | None = None) -> Iterator[tuple[str, _Members]]:
    """Yield, for each example of a shard, its key and its members by suffix; it is read once, from front to end.

    With `skip`, which a shard of this machine allows, members with these suffixes are stepped over and not read.
    Raises FormatError where the shard is no tar, or is cut off, and Unreachable for a URL that cannot be read.
    """
    pending: tuple[str, _Members] = ("", {})
    try:
        with _opened(place) as file:
            if file.seekable():
                if file.read(2) == b"\x1f\x8b":
                    raise FormatError(f"{place}: is gzipped, gunzip it first: recordings are read in their place")
                file.seek(0)
            with tarfile.open(fileobj=file, mode="r|" if skip is None else "r:") as archive:
                for member in archive:
                    archive.members = []  # type: ignore[attr-defined]  # or all headers of a shard stay in memory
                    if not member.isfile():
                        continue
                    key, suffix = key_and_suffix(member.name)
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
    except (tarfile.TarError, EOFError) as error:
        raise FormatError(f"{place}: not a readable tar shard ({error})") from error
    except OSError as error:
        raise _unreadable(place, error) from error
    if pending[1]:
        yield pending


def _example(place: str | Path, key: str, members: _Members) -> Example:
    audio = [member for suffix, member in members.items() if suffix in AUDIO_SUFFIXES]
    if len(audio) != 1 or ".json" not in members:
        raise FormatError(f"{place}: {key} needs one audio file and one .json, found {', '.join(sorted(members))}")
    metadata = _parsed(members[".json"].content or b"", f"{place}: {key}.json")
    stored = ByteRange(str(place), audio[0].offset, audio[0].size)
    return Example(key=key, audio=audio[0].content or b"", stored=stored, **metadata)


def read_manifest(place: str | Path, report: OnError = _raise) -> Iterator[Example]:
    """Yield the examples of a CSV, TSV, JSON-lines or Parquet manifest with columns `path`, relative to it, and `text`.

    Further columns may be any of Example's. A row without one of these two is reported.
    Raises FormatError for a table that has no such column, and Unreachable for a URL that cannot be read.
    """
    for number, row in enumerate(read_rows(place, ("path", "text"), report), start=1):
        where = f"{place}: row {number}"
        try:
            metadata, path = _metadata(row, where), _text(row.get("path"), f"{where}: path")
            if not path:
                raise FormatError(f"{where} has no path")
            audio = local_recording(place, path, where)
        except FormatError as error:
            report(error)
            continue
        yield Example(key=path, audio=audio, **metadata)


def local_recording(manifest: str | Path, path: str, where: str) -> Path:
    """Return where the recording lies that `manifest` calls `path`.

    Raises FormatError, which begins with `where`, for what is no file of this machine and for what the gate refuses:
    whoever has a manifest at a URL must not name the files of this machine.
    """
    try:
        admitted = admit(ForeignUri(path, str(manifest)))
    except FormatError as error:
        raise FormatError(f"{where}: {error}") from error
    if is_url(admitted):
        raise FormatError(f"{where}: {admitted} is no file of this machine: fetch it first, or make a shard of it")
    return Path(manifest).parent / path


def read_rows(
    place: str | Path, needed: Sequence[str] = ("path",), report: OnError = _raise
) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a CSV, TSV, JSON-lines or Parquet manifest, as they stand; a broken line is reported.

    Raises FormatError for a file that is none, and for a table without the columns `needed`; Unreachable for a URL that
    cannot be read.
    """
    try:
        yield from _rows(str(place), needed, report)
    except (csv.Error, pa.ArrowException) as error:
        raise FormatError(f"{place}: not a readable manifest ({error})") from error
    except OSError as error:
        raise _unreadable(place, error) from error


def _rows(place: str, needed: Sequence[str], report: OnError) -> Iterator[Mapping[str, Any]]:
    suffix = Path(place).suffix.lower()
    with _opened(place) as file:
        if suffix == ".parquet":
            table = pa.parquet.ParquetFile(file)
            _check_columns(place, table.schema_arrow.names, needed)
            for batch in table.iter_batches(batch_size=1024):
                yield from batch.to_pylist()
            return
        # What is no UTF-8 becomes half a surrogate pair, and is left out with the row that it stands in.
        lines = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
        if suffix == ".jsonl":
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    try:
                        row = _loads(line, f"{place}: line {number}")
                    except FormatError as error:
                        report(error)
                    else:
                        yield row if isinstance(row, dict) else {}
            return
        csv.field_size_limit(_LONGEST_FIELD)
        cells = csv.DictReader(lines, dialect="excel-tab" if suffix == ".tsv" else "excel")
        _check_columns(place, cells.fieldnames or (), needed)
        yield from cells


def _check_columns(place: str, names: Iterable[str], needed: Sequence[str]) -> None:
    missing = set(needed) - set(names)
    if missing:
        raise FormatError(f"{place}: the manifest has no column {' and no column '.join(sorted(missing))}")


def read_folder(folder: Path, report: OnError = _raise) -> Iterator[Example]:
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
            report(SourceError(f"{text}: cannot be read ({error})"))
        else:
            yield Example(key=path.relative_to(folder).as_posix(), audio=path, **known)


def read_member(stored: ByteRange) -> bytes:
    """Return the bytes of a member of a shard; a shard behind a URL is brought here whole, once."""
    with open_cached_copy(stored.place) if is_url(stored.place) else open_binary(stored.place) as file:
        file.seek(stored.offset)
        return file.read(stored.size)


def read_audio_bytes(audio: Path | ByteRange) -> bytes:
    """Return the bytes of a recording's file, wherever it lies."""
    return read_member(audio) if isinstance(audio, ByteRange) else audio.read_bytes()


def _opened(place: str | Path) -> BinaryIO:
    try:
        return open_binary(place)
    except SourceError as error:  # a protocol that nobody speaks here
        raise Unreachable(str(error)) from error


def _unreadable(place: str | Path, error: OSError) -> SourceError:
    kind = Unreachable if is_url(place) else SourceError
    why = first_line(error.__cause__ or error)  # fsspec's own error may say no more than the URL
    return kind(f"{place}: cannot be read ({why})")


def _loads(content: str | bytes, where: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where} is broken ({error})") from error


def _parsed(content: bytes, where: str) -> dict[str, Any]:
    metadata = _loads(content, where)
    return _metadata(metadata if isinstance(metadata, dict) else {}, where)


def _metadata(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return what `row` says of an example; `text` may be a list, and CLARA's shards nest the language.

    Numbers become text. Raises FormatError for what else is no text, and for a kind or a split that does not exist.
    """
    texts = row.get("text")
    texts = [text for text in (texts if isinstance(texts, list) else [texts]) if isinstance(text, str) and text.strip()]
    if not texts:
        raise FormatError(f"{where} has no text")
    for text in texts:
        _text(text, f"{where}: text")
    found = {name: value for name in _TEXTS if (value := _text(row.get(name), f"{where}: {name}"))}
    for name, known in (("kind", _KINDS), ("split", SPLIT_NAMES)):
        if name in found:
            value = known.get(found[name].strip().lower())
            if value is None:
                expected = ", ".join(dict.fromkeys(known.values()))
                raise FormatError(f"{where}: {name} is {found[name]!r}, expected one of {expected}")
            found[name] = value
    original = row.get("original_data")
    if isinstance(original, Mapping) and isinstance(original.get("language"), str):
        found.setdefault("language", original["language"])
        found.setdefault("text_language", original["language"])
    return {**found, "text": texts[0], "alternatives": tuple(texts[1:])}


def _text(value: Any, where: str) -> str | None:
    """Return `value` as text, or None where there is none. Raises FormatError for a list, a table, or broken text."""
    if value is None or value == "" or value != value:  # NaN is how tables without types say that there is none
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, (str, int, float)):
        raise FormatError(f"{where} is a {type(value).__name__}, expected text")
    text = str(value)
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise FormatError(f"{where} is no Unicode text ({error.reason})") from error
    return text
