"""Metadata of an example, as rows of manifests and JSON files of shards state it, checked and brought to one form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clara_search.datasets.example import METADATA_FIELDS
from clara_search.errors import FormatError

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "balanced_train", "unbalanced_train"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev", "development"), "valid"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
"""Our name of a split by the names that collections use, in lower case: "dev" is tuned on, "eval" is reported."""

_KINDS = {kind: kind for kind in ("speech", "sound", "music")}
_TEXT_FIELDS = tuple(name for name in METADATA_FIELDS if name not in ("text", "alternatives"))


def parse_metadata(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the fields of an `Example` that `row` states; numbers become text.

    Args:
        row: Values by name. `text` may be a list: its first item is the text, the others are alternatives. CLARA's
            own shards have the language within `original_data`.
        where: File and line, for errors.

    Raises:
        FormatError: There is no text, a value is a list or a table, or a kind or split is unknown.
    """
    values = row.get("text")
    texts = [text for text in (values if isinstance(values, list) else [values]) if isinstance(text, str)]
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise FormatError(f"{where} has no text")
    for text in texts:
        parse_text(text, f"{where}: text")
    fields = {name: value for name in _TEXT_FIELDS if (value := parse_text(row.get(name), f"{where}: {name}"))}
    for name, known in (("kind", _KINDS), ("split", SPLIT_NAMES)):
        if name in fields:
            value = known.get(fields[name].strip().lower())
            if value is None:
                expected = ", ".join(dict.fromkeys(known.values()))
                raise FormatError(f"{where}: {name} is {fields[name]!r}, expected one of {expected}")
            fields[name] = value
    original = row.get("original_data")
    if isinstance(original, Mapping) and isinstance(original.get("language"), str):
        fields.setdefault("language", original["language"])
        fields.setdefault("text_language", original["language"])
    return {**fields, "text": texts[0], "alternatives": tuple(texts[1:])}


def parse_text(value: Any, where: str) -> str | None:
    """Return `value` as text, None for an empty one. Raises FormatError for a list, a table, or broken Unicode."""
    if value is None or value == "" or value != value:  # NaN is how tables without types mark an empty cell
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
