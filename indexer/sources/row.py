"""Items that rows of manifests and shards describe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from clara_search.datasets.manifests import DEFAULT_COLUMNS, ManifestColumns, ManifestRow
from clara_search.datasets.manifests.naming import Naming
from clara_search.datasets.manifests.rows import parse_row
from clara_search.errors import ClaraError
from clara_search.files.gate import ForeignUri, admit
from clara_search.files.paths import FileStat
from clara_search.files.spelling import existing_spelling
from clara_search.files.tables import Block, Row
from indexer.sources.columns import ColumnType, table_name
from indexer.sources.item import Item
from indexer.sources.values import convert_value, plain_value, to_unicode


def row_item(
    file: str,
    row: Row,
    columns: ManifestColumns = DEFAULT_COLUMNS,
    stat: FileStat | None = None,
    types: Mapping[str, ColumnType] | None = None,
) -> Item:
    """Return the item that a row describes; a row that cannot be used is an item with a problem.

    Args:
        file: path or URL of the manifest or shard; a relative `path` in the row is relative to it.
        row: the row, with columns of the names that manifests have, such as `path`, `text`, `language` and `start_s`.
        columns: what the columns are, where it is not to be recognised.
        stat: size and token of `file`, needed if the row holds its recording.
        types: types that the user gave further columns; a value that is none fails the row.
    """
    block = Block(tuple(row.values), None, (row.line,), (tuple(row.values.values()),))
    try:
        layout = Naming(file, columns, _ignore).layout(block)
        parsed = parse_row(row.line, block.rows[0], layout, row.content)
    except ClaraError as error:
        parsed = ManifestRow(row.line, problem=str(error).removeprefix(f"{file}: "))
    return manifest_item(file, parsed, stat, types, row.name)


def manifest_item(
    file: str,
    row: ManifestRow,
    stat: FileStat | None = None,
    types: Mapping[str, ColumnType] | None = None,
    uri: str | None = None,
) -> Item:
    """Return the item of a row of a manifest; a row that cannot be used is an item with a problem.

    Args:
        file: path or URL of the manifest; "" for a table in memory, whose relative paths are those of the process.
        row: the row.
        stat: size and token of `file`, needed if the row holds its recording.
        types: types that the user gave further columns; a value that is none fails the row.
        uri: name of a recording in the row, or of a text; None: the file and the line.
    """
    columns = {table_name(name): plain_value(value) for name, value in row.columns.items()}
    own_uri = uri or row_uri(file, row, columns)
    problem = row.problem or _misfit(columns, types or {})
    if problem is not None:
        return Item(file, "text", own_uri, row.line, problem=problem)
    kind: Literal["audio", "text"] = "text" if row.path is None and row.content is None else "audio"
    if kind == "audio" and row.content is None:
        try:
            own_uri = existing_spelling(
                admit(ForeignUri(to_unicode(row.path or ""), file or str(Path.cwd() / "table")))
            )
        except ClaraError as error:
            return Item(file, "text", own_uri, row.line, problem=str(error))
    texts = tuple(plain_value(text) for text in row.texts)
    if len(texts) > 1:
        columns["captions"] = list(texts)
    return Item(
        file,
        kind,
        own_uri,
        row.line,
        texts[0] if texts else None,
        plain_value(row.language),
        row.start_s,
        row.end_s,
        columns,
        content=row.content,
        stat=stat,
    )


def row_uri(file: str, row: ManifestRow, columns: Mapping[str, Any]) -> str:
    """Return the name of a text, of a recording in a row, or of a row that cannot be used."""
    if file:
        inner = f"/{row.path.lstrip('/')}" if row.content is not None and row.path else ""
        return f"{file}#L{row.line}{inner}"
    # A table in memory has no name, and its rows may be others next time: the content names them.
    content = row.content.read() if row.content is not None else b""
    details = json.dumps([row.texts, row.language, columns, row.problem and row.line], default=str)
    digest = hashlib.sha256(content or details.encode()).hexdigest()[:32]
    return f"table:{digest}" + (f"/{row.path}" if content and row.path else "")


def _misfit(columns: dict[str, Any], types: Mapping[str, ColumnType]) -> str | None:
    """Convert the columns that the user gave a type; return why that fails, if it does."""
    for name in types.keys() & columns.keys():
        try:
            columns[name] = convert_value(columns[name], types[name])
        except (ValueError, OverflowError) as error:
            return f"column '{name}' is to be {types[name]}: {error}"
    return None


def _ignore(line: str) -> None:
    pass
