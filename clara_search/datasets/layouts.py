"""Two readers for every declared dataset: recordings that tables list, and recordings whose names say all."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from clara_search.audio.decode import AUDIO_SUFFIXES
from clara_search.datasets.dataset import Dataset, Table
from clara_search.datasets.labelled import SEPARATOR
from clara_search.datasets.metadata import SPLIT_NAMES
from clara_search.errors import FormatError, SourceError

ANY_AUDIO = ".*"


@dataclass(frozen=True)
class Row:
    """A recording of a dataset: its file below `root`, None where it is not there, and the manifest's columns."""

    audio: Path | None
    named: str
    columns: Mapping[str, str]


def read_rows(dataset: Dataset, root: Path) -> Iterator[Row]:
    """Yield the recordings of the dataset that lies in `root`, in order of its tables or names.

    Raises SourceError where nothing there has its layout, and where a table is broken or lacks a column.
    """
    if not root.is_dir():
        raise SourceError(f"{root}: no such folder")
    files = _files(dataset, root)
    folds = _speaker_folds(dataset, root, files) if dataset.speaker_folds else {}
    words = {column: _words_in(root, *place) for column, place in dataset.named_in.items()}
    for audio, named, fields in _fields(dataset, root, files):
        columns = {"source": dataset.name, "language": dataset.language}
        columns |= {column: _formatted(dataset, form, fields) for column, form in dataset.columns.items()}
        columns["split"] = SPLIT_NAMES.get(columns.get("split", "").lower(), columns.get("split", ""))
        for column, known in words.items():
            columns[column] = SEPARATOR.join(known.get(code, code) for code in columns[column].split(SEPARATOR))
        if folds:
            columns["fold"] = str(folds[columns["speaker"]])
        yield Row(audio, named, {column: value for column, value in columns.items() if value})


def _files(dataset: Dataset, root: Path) -> list[tuple[Path, dict[str, str]]]:
    """Return the dataset's tables or recordings, each with the fields that its path says."""
    for form in dataset.files:
        found = []
        for path in sorted(root.glob(form)):
            said = re.fullmatch(dataset.pattern, path.relative_to(root).as_posix())
            if said is not None and not path.name.startswith("."):
                found.append((path, {name: value or "" for name, value in said.groupdict().items()}))
        if found:
            return found
    raise SourceError(f"{root}: not laid out as {dataset.name} is published: nothing matches {dataset.files[0]}")


_Fields = dict[str, str]


def _fields(
    dataset: Dataset, root: Path, files: list[tuple[Path, _Fields]]
) -> Iterator[tuple[Path | None, str, _Fields]]:
    """Yield file, name and fields of each recording."""
    for path, said in files:
        if dataset.table is None:
            yield path, path.relative_to(root).as_posix(), _in_words(dataset, said)
            continue
        said = {**said, "folder": path.parent.relative_to(root).as_posix()}
        for number, row in enumerate(_table_rows(path, dataset.table)):
            fields = _in_words(dataset, {**said, **row, "number": str(number)})
            places = [_formatted(dataset, form, fields) for form in dataset.audio]
            found = next((found for place in places if (found := _located(root, place)) is not None), None)
            yield found, places[0], fields


def _table_rows(path: Path, table: Table) -> Iterator[_Fields]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = (line for line in file if not table.comment or not line.startswith(table.comment))
            # A TSV quotes nothing.
            quoting: Literal[0, 3] = csv.QUOTE_NONE if table.delimiter == "\t" else csv.QUOTE_MINIMAL
            header: Sequence[str] | None = table.header or None
            reader = csv.DictReader(lines, header, delimiter=table.delimiter, skipinitialspace=True, quoting=quoting)
            for row in reader:
                yield {str(name).strip(): _mended(value) for name, value in row.items() if isinstance(value, str)}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{path}: not a table that can be read ({error})") from error


def _mended(cell: str) -> str:
    """Return a cell without the spaces around it, and with the punctuation of Windows that MELD's tables garble."""
    return re.sub(r"[\x80-\x9f]", lambda c: c.group().encode("latin-1").decode("cp1252", "ignore"), cell).strip()


def _in_words(dataset: Dataset, fields: _Fields) -> _Fields:
    """Return `fields` with what their codes mean, whatever their case."""
    for name, words in dataset.words.items():
        code = fields.get(name, "")
        fields[name] = words.get(code, words.get(code.lower(), code))
    return fields


def _formatted(dataset: Dataset, form: str, fields: _Fields) -> str:
    try:
        return form.format_map(fields)
    except KeyError as error:
        names = ", ".join(name for name in fields if name not in ("folder", "number"))
        raise FormatError(f"{dataset.name}: a table has no column {error.args[0]!r}; it has {names}") from error


def _located(root: Path, place: str) -> Path | None:
    """Return the file `place` below `root`, of any audio suffix where it ends with ".*"; None where there is none."""
    path = root / place.lstrip("/")
    if root.resolve() not in path.resolve().parents:  # a table that names what is none of its own
        return None
    if not place.endswith(ANY_AUDIO):
        return path if path.is_file() else None
    return _audio_in(path.parent).get(path.name.removesuffix(ANY_AUDIO))


@cache
def _audio_in(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in AUDIO_SUFFIXES}


def _words_in(root: Path, name: str, code: str, word: str) -> dict[str, str]:
    """Return what the codes in the table `name` mean; nothing where it is not there."""
    path = next((path for path in (root / name, *sorted(root.glob(f"*/{name}"))) if path.is_file()), None)
    rows = _table_rows(path, Table()) if path else ()
    return {row[code]: row[word].replace(SEPARATOR, "") for row in rows if row.get(code) and row.get(word)}


def _speaker_folds(dataset: Dataset, root: Path, files: list[tuple[Path, _Fields]]) -> dict[str, int]:
    """Return the fold of each speaker, from 1: speakers in order of name, one after another."""
    form = dataset.columns["speaker"]
    speakers = sorted({_formatted(dataset, form, fields) for _, _, fields in _fields(dataset, root, files)})
    return {speaker: 1 + place % dataset.speaker_folds for place, speaker in enumerate(speakers)}
