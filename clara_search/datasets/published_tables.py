"""The tables of published datasets: delimited, lines of a pattern, JSON, JSON lines and YAML, as rows of texts."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from clara_search.datasets.dataset import Table
from clara_search.errors import FormatError, MissingDependency
from clara_search.files.json_reader import parse_json
from clara_search.files.limits import JSON_BYTES
from clara_search.files.regular import read_regular

Fields = dict[str, str]
"""The values of a row by their names."""


def table_rows(path: Path, table: Table) -> Iterator[Fields]:
    """Yield the rows of a table.

    Args:
        path: The table; its suffix tells JSON, JSON lines and YAML from text.
        table: Its format.

    Raises:
        FormatError: It is broken.
        MissingDependency: It is YAML, and PyYAML is not installed.
    """
    try:
        if path.suffix in (".json", ".jsonl", ".yaml"):
            for record in _records(path):
                yield from _flatten(record, table.each)
            return
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = (line for line in file if not table.comment or not line.startswith(table.comment))
            if table.line:
                yield from _matches(path, lines, table.line)
                return
            # A TSV quotes nothing.
            quoting: Literal[0, 3] = csv.QUOTE_NONE if table.delimiter == "\t" else csv.QUOTE_MINIMAL
            header: Sequence[str] | None = table.header or None
            reader = csv.DictReader(lines, header, delimiter=table.delimiter, skipinitialspace=True, quoting=quoting)
            for row in reader:
                yield {str(name).strip(): _repair(value) for name, value in row.items() if isinstance(value, str)}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{path}: not a table that can be read ({error})") from error


def _matches(path: Path, lines: Iterator[str], pattern: str) -> Iterator[Fields]:
    for number, line in enumerate(lines, start=1):
        if (match := re.fullmatch(pattern, line.strip())) is None:
            raise FormatError(f"{path}, line {number}: expected {pattern}")
        yield match.groupdict(default="")


def _records(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the objects in a JSON or YAML file: a list, or the only list in an object."""
    content = read_regular(path, JSON_BYTES)
    if path.suffix == ".jsonl":
        records = [parse_json(line, f"{path}, line {n}") for n, line in enumerate(content.splitlines(), 1) if line]
    else:
        records = _yaml(path, content) if path.suffix == ".yaml" else parse_json(content, path)
    if isinstance(records, dict):
        records = next((value for value in records.values() if isinstance(value, list)), [])
    for record in records if isinstance(records, list) else [records]:
        if not isinstance(record, dict):
            raise FormatError(f"{path}: expected a list of objects")
        yield record


def _yaml(path: Path, content: bytes) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise MissingDependency(f"{path}: PyYAML is needed to read it: pip install PyYAML") from error
    try:
        return yaml.load(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError for a date that is none
        raise FormatError(f"{path}: no YAML ({' '.join(str(error).split())})") from error


def _flatten(record: Mapping[str, Any], each: str) -> Iterator[Fields]:
    """Yield a row, or one for each object in the list `each` of the record."""
    inner = record.get(each, []) if each else [{}]
    for values in inner if isinstance(inner, list) else []:
        if isinstance(values, dict):
            joined = {**record, **values}
            yield {str(name): _text(value) for name, value in joined.items() if name != each and value is not None}


def _text(value: Any) -> str:
    """Return a value as text: of a list the items between commas, of intervals "1-2;5-7", of what is deeper nothing."""
    if not isinstance(value, list):
        return "" if isinstance(value, dict) else _repair(str(value))
    if value and all(isinstance(item, list) for item in value):
        return ";".join("-".join(_scalars(item)) for item in value)
    return ",".join(_scalars(value))


def _scalars(values: list[Any]) -> list[str]:
    return [_repair(str(value)) for value in values if not isinstance(value, (list, dict))]


def _repair(cell: str) -> str:
    """Return a cell without the blanks around it, its control characters read as Windows-1252: MELD garbles them."""
    return re.sub(r"[\x80-\x9f]", lambda c: c.group().encode("latin-1").decode("cp1252", "ignore"), cell).strip()
