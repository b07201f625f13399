"""Items that rows of manifests and shards describe."""

from __future__ import annotations

from typing import Literal

from clara_search.audio.segments import parse_segment
from clara_search.errors import ClaraError
from clara_search.files.gate import ForeignUri, admit
from clara_search.files.paths import FileStat
from clara_search.files.tables import Row
from indexer.sources.item import Item


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
        start_s, end_s = parse_segment(values.pop("start_s", None), values.pop("end_s", None))
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
