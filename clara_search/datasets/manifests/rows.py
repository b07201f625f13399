"""Rows of manifests by what they mean: a recording or a segment of one, its texts, and further columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from clara_search.audio.segments import parse_segment
from clara_search.datasets.manifests.columns import Layout
from clara_search.files.shards import BytesSource
from clara_search.files.tables import Cell


class ManifestRow(NamedTuple):
    """A row of a manifest.

    Attributes:
        line: The line that it starts on, from 1.
        path: Path or URL of its recording, as the manifest has it.
        content: Its recording, if the manifest holds it.
        texts: Its transcript, or its captions.
        language: Language of the texts.
        start_s: Start of the segment in seconds; None for the start of the recording.
        end_s: End of the segment in seconds; None for the end of the recording.
        columns: The values of its further columns that are not missing.
        problem: Why it cannot be used, if that is so.
    """

    line: int
    path: str | None = None
    content: BytesSource | None = None
    texts: tuple[str, ...] = ()
    language: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    columns: Mapping[str, Any] = MappingProxyType({})
    problem: str | None = None

    @property
    def recording(self) -> tuple[str, float | None, float | None] | None:
        """What identifies the recording or segment; None for a text and for a recording in the manifest itself."""
        return None if self.path is None or self.content is not None else (self.path, self.start_s, self.end_s)


def parse_row(line: int, values: Sequence[Any], layout: Layout, beside: BytesSource | None = None) -> ManifestRow:
    """Return the row with `values`, whose columns are those of `layout`, and perhaps a recording `beside` them."""
    columns = {
        name: value
        for position, name in layout.further
        if (value := values[position]) is not None and value != "" and value == value
    }
    content, inner_path = (beside, None) if beside is not None else _content(values, layout)
    path = next((value for i in layout.paths if not is_missing(value := values[i])), None)
    if content is not None:
        if path is not None and path != inner_path:
            columns["path"] = path
        path = inner_path or (path if isinstance(path, str) else None)
    elif path is None:
        path = inner_path
    language = None if layout.language is None else missing_as_none(values[layout.language])
    try:
        start_s, end_s = _segment(values, layout)
        texts = _texts(values, layout)
        if language is not None and not isinstance(language, str):
            language = _as_text("language", language)
        if isinstance(path, int) and not isinstance(path, bool):  # a name without a suffix
            path = str(path)
        if path is not None and not isinstance(path, str):
            raise ValueError(f"path is no text: {path!r}")
    except ValueError as error:
        return ManifestRow(line, problem=str(error))
    if path is None and content is None and not texts:
        return ManifestRow(line, problem="has neither a path nor a text")
    return ManifestRow(line, path, content, texts, language, start_s, end_s, columns)


def is_missing(value: Any) -> bool:
    """Tell whether a value is missing: null, an empty text, NaN, or how programs spell that in a table of texts."""
    return value is None or value != value or value in ("", "NaN", "<NA>", "NULL")


def missing_as_none(value: Any) -> Any:
    """Return a value, None for a missing one."""
    return None if is_missing(value) else value


def _content(values: Sequence[Any], layout: Layout) -> tuple[Cell | None, str | None]:
    """Return the recording in a row, and what the data calls it; a struct may hold a path alone."""
    for position in layout.contents:
        value = values[position]
        if isinstance(value, Cell):
            return value, value.name
        if isinstance(value, str):
            return None, value
    return None, None


def _texts(values: Sequence[Any], layout: Layout) -> tuple[str, ...]:
    """Return the different texts of a row, in order."""
    texts = dict[str, None]()
    for position in layout.texts:
        value = values[position]
        for text in value if isinstance(value, (list, tuple)) else (value,):
            if is_missing(text):
                continue
            if not isinstance(text, str):
                text = _as_text("text", text)
            if not text.isspace():
                texts[text] = None
    return tuple(texts)


def _as_text(name: str, value: Any) -> str:
    """Return a number as text, such as a transcript of digits in a column that was taken for numbers."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} is no text: {value!r}")
    return str(value)


def _segment(values: Sequence[Any], layout: Layout) -> tuple[float | None, float | None]:
    if layout.start is None and layout.end is None:
        return None, None
    start = None if layout.start is None else values[layout.start]
    end = None if layout.end is None else values[layout.end]
    if layout.duration is not None and (length := missing_as_none(values[layout.duration])) is not None:
        try:
            end = float(missing_as_none(start) or 0) + float(length)
        except (TypeError, ValueError) as error:
            raise ValueError(f"not a time in seconds: {length!r}") from error
    return parse_segment(start, end)
