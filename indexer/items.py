"""What is indexed: one recording, a stretch of one, or one text, wherever it was listed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from clara_search.errors import FormatError

ColumnType = Literal["bool", "int", "float", "text"]
"""What a further column of a manifest holds, from the narrowest to the widest."""


@dataclass(frozen=True)
class Item:
    """One recording, one stretch of a recording, or one text, as a source lists it.

    `start_s` and `end_s` bound the stretch in seconds (None: the beginning, the end). `problem` says why the item
    cannot be used, where its listing already shows that.
    """

    source: str
    kind: Literal["audio", "text"]
    uri: str
    line: int | None = None
    text: str | None = None
    language: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None

    @property
    def key(self) -> str:
        """What tells items apart: the uri, with the stretch where one is given."""
        if self.kind == "text" or (self.start_s is None and self.end_s is None):
            return self.uri
        return f"{self.uri}#t={self.start_s or 0:g},{'' if self.end_s is None else f'{self.end_s:g}'}"


@dataclass(frozen=True)
class Survey:
    """What a first look at the sources finds: how many items, and the further columns with their types."""

    items: int
    columns: Mapping[str, ColumnType]


def text_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file, line ends included. Raises FormatError with the line that is not UTF-8."""
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                try:
                    yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise FormatError(f"{path}, line {number}: not UTF-8 ({error.reason})") from error
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror}") from error
