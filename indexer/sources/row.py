"""Rows of manifests and shards, and the items that they describe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from clara_search.errors import ClaraError
from clara_search.files.gate import ForeignUri, admit
from clara_search.files.paths import FileStat
from indexer.sources.item import BytesSource, Item


@dataclass(frozen=True)
class Row:
    """A row of a source.

    Attributes:
        line: its number, from 1.
        values: values by column.
        content: the recording that the row holds itself, if any.
        name: URI of the item if it is not the file and the line.
    """

    line: int
    values: Mapping[str, Any]
    content: BytesSource | None = None
    name: str | None = None


def row_item(file: str, row: Row, text_column: str = "text", stat: FileStat | None = None) -> Item:
    """Return the item that a row describes; a row that cannot be used is an item with a problem.

    Args:
        file: path or URL of the manifest or shard; a relative `path` in the row is relative to it.
        row: the row, with the columns `path` or `url`, `text_column`, `language`, `start_s` and `end_s`, all optional.
        text_column: name of the column that holds the text.
        stat: size and token of `file`, needed if the row holds its recording.
    """
    values = {name: value for name, value in row.values.items() if value is not None}
    path, url = values.pop("path", None), values.pop("url", None)
    text, language = values.pop(text_column, None), values.pop("language", None)
    row_uri = row.name or f"{file}#L{row.line}"
    try:
        start_s, end_s = _seconds(values.pop("start_s", None)), _seconds(values.pop("end_s", None))
        if (start_s or 0.0) >= (math.inf if end_s is None else end_s):
            raise ValueError(f"start_s {start_s} is not before end_s {end_s}")
        path = url if path is None else path
        for name, value in (("path", path), (text_column, text), ("language", language)):
            if not isinstance(value, (str, type(None))):
                raise ValueError(f"{name} is no text: {value!r}")
        if path is None and text is None and row.content is None:
            raise ValueError("has neither a path nor a text")
        uri = row_uri if path is None or row.content is not None else admit(ForeignUri(path, file))
    except (ValueError, ClaraError) as error:
        return Item(file, "text", row_uri, row.line, problem=str(error))
    kind: Literal["audio", "text"] = "text" if path is None and row.content is None else "audio"
    return Item(file, kind, uri, row.line, text, language, start_s, end_s, values, content=row.content, stat=stat)


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(f"not a time in seconds: {value!r}")
    return seconds
