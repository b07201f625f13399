"""Recordings and tables in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clara_search.errors import FormatError, first_line
from indexer.sources.item import InMemoryWaveform, Item


@dataclass(frozen=True)
class Recording:
    """A waveform in memory.

    Attributes:
        uri: name of the recording; indexing it again under the same name replaces its rows.
        waveform: floating point samples, shape (samples,) or (samples, channels).
        sample_rate: Hz.
        text: what is said or heard, if known.
        language: code of the text's language.
        columns: values of further columns.
    """

    uri: str
    waveform: npt.NDArray[np.floating[Any]]
    sample_rate: int
    text: str | None = None
    language: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)

    def to_item(self) -> Item:
        """Return the recording as an item."""
        content = InMemoryWaveform(self.waveform, self.sample_rate)
        columns = {name: value for name, value in self.columns.items() if value is not None}
        return Item("", "audio", self.uri, None, self.text, self.language, columns=columns, content=content)


@dataclass(frozen=True)
class MemoryTable:
    """A table in memory, which is read as a manifest. Relative paths in it are those of the process.

    Attributes:
        table: the table.
        name: its name in messages.
    """

    table: pa.Table
    name: str

    @classmethod
    def of(cls, source: TableLike, number: int) -> MemoryTable:
        """Return a data frame, an Arrow table, or all of a stream of batches, as the table of this number.

        Raises:
            FormatError: A column of a data frame holds values that Arrow does not know.
        """
        name = f"table {number} in memory"
        try:
            return cls(_to_arrow(source), name)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise FormatError(f"{name}: cannot be read ({first_line(error)})") from error


@runtime_checkable
class TableLike(Protocol):
    """A table in memory: of Arrow, pandas, polars, or of another library that speaks Arrow's protocol."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return a stream of record batches."""


def _to_arrow(source: Any) -> pa.Table:
    if not type(source).__module__.startswith("pandas"):
        return pa.table(source)
    frame = source.to_frame() if source.ndim == 1 else source
    texts = {name: column.map(_as_text) for name, column in frame.items() if _is_mixed(column)}
    return pa.Table.from_pandas(frame.assign(**texts) if texts else frame)


def _is_mixed(column: Any) -> bool:
    """Tell whether a column of a data frame has values of several kinds, which no type of Arrow holds."""
    if column.dtype != object:
        return False
    try:
        pa.array(column, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError):
        return True
    return False


def _as_text(value: Any) -> str | None:
    return None if value is None or value != value else str(value)
