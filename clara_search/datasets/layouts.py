"""The reader of declared datasets: recordings listed by tables, or recordings whose names hold the fields."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from clara_search.audio.decode import AUDIO_SUFFIXES
from clara_search.datasets.dataset import Dataset, Table
from clara_search.datasets.labelled import SEPARATOR
from clara_search.datasets.metadata import SPLIT_NAMES
from clara_search.datasets.published_tables import Fields, table_rows
from clara_search.errors import FormatError, SourceError

ANY_AUDIO = ".*"


@dataclass(frozen=True)
class DatasetRow:
    """A recording of a dataset.

    Attributes:
        audio: Its file, None if it is missing.
        name: Its path in the dataset.
        columns: Columns of the manifest.
    """

    audio: Path | None
    name: str
    columns: Mapping[str, str]


def read_dataset(dataset: Dataset, root: Path) -> Iterator[DatasetRow]:
    """Yield the recordings of a dataset, in order of its tables or names.

    Args:
        dataset: Its declaration.
        root: The folder that it was downloaded to.

    Raises:
        SourceError: The folder is missing, or has another layout.
        FormatError: A table is broken, or lacks a column.
    """
    if not root.is_dir():
        raise SourceError(f"{root}: no such folder")
    files = _files(dataset, root)
    folds = _speaker_folds(dataset, root, files) if dataset.speaker_folds else {}
    lists = {split: _read_list(root, name) for split, name in dataset.split_lists.items()}
    words = {column: _read_words(root, *table) for column, table in dataset.named_in.items()}
    for audio, name, fields in _recordings(dataset, root, files):
        columns = {"source": dataset.name, "language": dataset.language}
        columns |= {column: _format(dataset, pattern, fields) for column, pattern in dataset.columns.items()}
        columns["split"] = SPLIT_NAMES.get(columns.get("split", "").lower(), columns.get("split", ""))
        for column, known in words.items():
            columns[column] = SEPARATOR.join(known.get(code, code) for code in columns[column].split(SEPARATOR))
        if folds:
            columns["fold"] = str(folds[columns["speaker"]])
        if lists:
            columns["split"] = next((split for split, names in lists.items() if name in names), "train")
        for caption in dataset.captions or ("",):
            text = {"text": _format(dataset, caption, fields)} if caption else {}
            yield DatasetRow(audio, name, {column: value for column, value in (columns | text).items() if value})


_Files = list[tuple[Path, Fields]]


def _files(dataset: Dataset, root: Path) -> _Files:
    """Return the dataset's tables or recordings, each with the fields in its path."""
    for pattern in dataset.files:
        files = []
        for path in sorted(root.glob(pattern)):
            match = re.fullmatch(dataset.pattern, path.relative_to(root).as_posix())
            if match is not None and not path.name.startswith("."):
                files.append((path, {name: value or "" for name, value in match.groupdict().items()}))
        if files:
            return files
    raise SourceError(f"{root}: not laid out as {dataset.name} is published: nothing matches {dataset.files[0]}")


def _recordings(dataset: Dataset, root: Path, files: _Files) -> Iterator[tuple[Path | None, str, Fields]]:
    """Yield file, name and fields of each recording."""
    for path, path_fields in files:
        if dataset.table is None:
            yield path, path.relative_to(root).as_posix(), _decode_words(dataset, path_fields)
            continue
        path_fields = {**path_fields, "folder": path.parent.relative_to(root).as_posix()}
        for number, row in enumerate(table_rows(path, dataset.table)):
            fields = _decode_words(dataset, {**path_fields, **row, "number": str(number)})
            names = [_format(dataset, pattern, fields) for pattern in dataset.audio]
            audio = next((audio for name in names if (audio := _find_audio(root, name)) is not None), None)
            yield audio, PurePosixPath(names[0]).as_posix(), fields


def _decode_words(dataset: Dataset, fields: Fields) -> Fields:
    """Return `fields` with words for their codes, whatever their case."""
    for name, words in dataset.words.items():
        code = fields.get(name, "")
        fields[name] = words.get(code, words.get(code.lower(), code))
    return fields


def _format(dataset: Dataset, pattern: str, fields: Fields) -> str:
    try:
        return pattern.format_map(fields)
    except KeyError as error:
        names = ", ".join(name for name in fields if name not in ("folder", "number"))
        raise FormatError(f"{dataset.name}: a table has no column {error.args[0]!r}; it has {names}") from error


def _find_audio(root: Path, name: str) -> Path | None:
    """Return the file `name` below `root`, of any audio suffix if it ends with ".*"; None if it is missing."""
    path = root / name.lstrip("/")
    try:
        if root.resolve() not in path.resolve().parents:  # a table may name only files of its dataset
            return None
        if not name.endswith(ANY_AUDIO):
            return path if path.is_file() else None
        return _audio_by_stem(path.parent).get(path.name.removesuffix(ANY_AUDIO))
    except (OSError, ValueError):  # a name that no file can have: too long, or with a NUL
        return None


@cache
def _audio_by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in AUDIO_SUFFIXES}


def _read_words(root: Path, name: str, code: str, word: str) -> dict[str, str]:
    """Return the words for the codes in the table `name`; an empty dict if it is missing."""
    path = next((path for path in (root / name, *sorted(root.glob(f"*/{name}"))) if path.is_file()), None)
    rows = table_rows(path, Table()) if path else ()
    return {row[code]: row[word].replace(SEPARATOR, "") for row in rows if row.get(code) and row.get(word)}


def _read_list(root: Path, name: str) -> frozenset[str]:
    """Return the recordings that a list of a split names, relative to the dataset."""
    path = next((path for path in (root / name, *sorted(root.glob(f"*/{name}"))) if path.is_file()), None)
    if path is None:
        raise SourceError(f"{root}: has no {name}, which lists the recordings of a split")
    folder = "" if path.parent == root else f"{path.parent.relative_to(root).as_posix()}/"
    return frozenset(f"{folder}{row['path']}" for row in table_rows(path, Table(line=r"(?P<path>\S+)")))


def _speaker_folds(dataset: Dataset, root: Path, files: _Files) -> dict[str, int]:
    """Return the fold of each speaker, from 1: speakers in order of name, one after another."""
    pattern = dataset.columns["speaker"]
    speakers = sorted({_format(dataset, pattern, fields) for _, _, fields in _recordings(dataset, root, files)})
    return {speaker: 1 + index % dataset.speaker_folds for index, speaker in enumerate(speakers)}
