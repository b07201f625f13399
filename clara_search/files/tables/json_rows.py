"""JSON lines and JSON arrays: an object is a row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, groupby, islice
from typing import Any

from clara_search.errors import ClaraError, FormatError
from clara_search.files.json_reader import parse_json, parse_object
from clara_search.files.limits import ROW_BYTES
from clara_search.files.tables.lines import Line, numbered_lines
from clara_search.files.tables.rows import ROWS_A_BLOCK, Block, OnError, check_width
from clara_search.files.tables.samples import samples_of_object

_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]')
"""A string, also one without an end, a bracket, or a comma."""

_LEVEL = {"[": 1, "{": 1, "]": -1, "}": -1}


def read_json(path: str, report: OnError, encoding: str | None) -> Iterator[Block]:
    """Yield the objects of a file: one a line, or the elements of one array, which are numbered from 1.

    Args:
        path: Path or URL.
        report: Called with the error of each line or element that is no object; broken syntax ends an array.
        encoding: As `numbered_lines` takes it.

    Raises:
        SourceError: The file cannot be read.
    """
    lines = numbered_lines(path, encoding)
    first = next((line for line in lines if not line.text.isspace()), None)
    if first is None:
        return
    lines = chain((first,), lines)
    is_array = first.text.lstrip().startswith("[") and (path.lower().endswith(".json") or not _is_whole(first))
    objects = _elements(path, lines, report) if is_array else _line_objects(path, lines, report)
    for names, group in groupby(objects, key=lambda pair: tuple(map(str, pair[1]))):
        check_width(names, path)
        while chunk := list(islice(group, ROWS_A_BLOCK)):
            yield Block(
                names,
                None,
                [line for line, _ in chunk],
                [tuple(map(samples_of_object, values.values())) for _, values in chunk],
            )


def _is_whole(line: Line) -> bool:
    """Tell whether a line is a JSON value of its own."""
    try:
        parse_json(line.text, "", is_row=True)
    except ClaraError:
        return False
    return True


def _line_objects(path: str, lines: Iterable[Line], report: OnError) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line in lines:
        if line.text.isspace():
            continue
        where = f"{path}, line {line.number}"
        try:
            if line.error is not None:
                raise line.error
            yield line.number, parse_object(line.text, where, is_row=True)
        except ClaraError as error:
            report(error)


def _elements(path: str, lines: Iterable[Line], report: OnError) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the elements of an array, of which no more than one is in memory."""
    number = 0
    for number, text in enumerate(_split_array(path, lines, report), start=1):
        try:
            yield number, _task_data(parse_object(text, f"{path}, element {number}", is_row=True))
        except FormatError as error:
            report(error)


def _split_array(path: str, lines: Iterable[Line], report: OnError) -> Iterator[str]:
    """Yield the texts between the commas of an array; an array that is cut off, or a text that is too long, ends it."""
    depth, size, parts = 0, 0, list[str]()
    for line in lines:
        start = 0
        for match in _TOKEN.finditer(line.text):
            depth += _LEVEL.get(match[0], 0)
            if depth == 1 and match[0] == "[":
                start = match.end()
            elif depth == 0 or (depth == 1 and match[0] == ","):
                text = "".join((*parts, line.text[start : match.start()]))
                if text.strip():
                    yield text
                if depth == 0:
                    return
                start, size, parts = match.end(), 0, []
        parts.append(line.text[start:])
        size += len(parts[-1])
        if size > ROW_BYTES.value:
            report(ROW_BYTES.exceeded(f"{path}, line {line.number}"))
            return
    report(FormatError(f"{path}: the array is cut off: its last element, and what may have followed, is lost"))


def _task_data(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a task of Label Studio, whose columns are in `data`, as one object; other objects as they are."""
    data = values.get("data")
    if not isinstance(data, dict) or not values.keys() & {"id", "annotations", "predictions"}:
        return values
    return {**data, **{name: value for name, value in values.items() if name != "data" and name not in data}}
