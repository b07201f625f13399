"""A row of a manifest, whatever file it stands in, and values as a table can hold them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from indexer.sources.item import Content


@dataclass(frozen=True)
class Row:
    """A row: where it stands, its values by column, and the recording that it holds itself, if any.

    `name` is what the recording is called, where that is not the file and its line.
    """

    line: int
    values: Mapping[str, Any]
    content: Content | None = None
    name: str | None = None


def plain_value(value: Any) -> Any:
    """Return a scalar as it is, and what is nested, a date or a number beyond 64 bits as text; None for no text."""
    if isinstance(value, str):
        return to_unicode(value) or None
    if value is None or isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    return to_unicode(json.dumps(value, ensure_ascii=False, default=str))


def to_unicode(text: str) -> str:
    """Return `text` with what is no character (half of a surrogate pair, as JSON can spell it) replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
