"""Tables that are open for searching: their rows, their encoder, and what happens to them in threads and processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from threading import RLock
from typing import Any

import numpy as np

from clara_search.cpu import limit_threads_after_fork
from clara_search.errors import EncoderMismatch, QueryError
from clara_search.models.base import Encoder
from clara_search.models.recorded import RecordedModel
from clara_search.models.registry import load_encoder
from clara_search.retrieval.calibration.judge import Judge
from clara_search.retrieval.exact.scan import RowPositions
from clara_search.retrieval.hits import Hit, build_hits
from clara_search.retrieval.queries.arrays import to_unit_vectors
from clara_search.retrieval.query import Query
from clara_search.retrieval.ranked import RankedRows
from clara_search.retrieval.searcher import Searcher
from clara_search.store.database import Database
from clara_search.store.table import Table


class OpenTables:
    """Tables of one encoder, with their rows in memory and the encoder, both read at first use.

    Threads may share it, a forked process may use its parent's, and it can be pickled: it is then opened anew.

    Args:
        table: The table, or several that one encoder built.
        model: As in `open`.
        encoder: As in `open`.
        precision: As in `open`.
        device: As in `open`.
    """

    def __init__(
        self,
        table: Table | Sequence[Table],
        model: str | RecordedModel | None = None,
        encoder: Encoder | None = None,
        precision: str = "auto",
        device: str | None = None,
    ):
        self.tables = [table] if isinstance(table, Table) else list(table)
        for other in self.tables[1:]:
            if other.info.fingerprint != self.table.info.fingerprint:
                raise EncoderMismatch(
                    f"{self.table!r} and {other!r} were built by different models: their scores cannot be compared"
                )
        if encoder is not None:
            self.table.check_encoder(encoder)
        self._arguments = (model, encoder, precision, device)
        self._encoder = encoder
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._lock = RLock()
        self._searchers = [Searcher(table) for table in self.tables]
        for searcher in self._searchers:
            searcher.judge = Judge(searcher, lambda: self.encoder).judge

    def __len__(self) -> int:
        return self.count()

    def __bool__(self) -> bool:
        return True  # an empty index is one

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.tables))})"

    def __reduce__(self) -> tuple[Any, ...]:
        places = [(table.connection.location, table.name) for table in self.tables]
        return _reopen, (type(self), places, *self._arguments)

    @property
    def table(self) -> Table:
        """The table; the first one of several."""
        return self.tables[0]

    @property
    def columns(self) -> list[str]:
        """The names of the columns, of all tables together, without the vector."""
        names = dict.fromkeys(name for table in self.tables for name in table.schema.names)
        return [name for name in names if name != "vector"]

    @property
    def encoder(self) -> Encoder:
        """The encoder of queries, loaded at first use.

        Raises:
            UnknownModel: The model cannot be found.
            EncoderMismatch: It is not the encoder that built the table.
        """
        self._check_process()
        with self._lock:  # threads share one
            if self._encoder is None:
                model, _, precision, device = self._arguments
                encoder = load_encoder(model or self.table.info.model, precision=precision, device=device)
                self.table.check_encoder(encoder)
                self._encoder = encoder
            return self._encoder

    def count(self, where: str | None = None) -> int:
        """Count rows.

        Args:
            where: Only rows that pass this SQL filter.

        Returns:
            The number of rows.

        Raises:
            QueryError: The filter cannot be used.
        """
        self._check_process()
        return sum(table.count(where) for table in self.tables)

    def get(self, id: str) -> Hit:  # noqa: A002 - the name of the column
        """Return the row of an id, as the hit that it is for itself, with the score 1.

        Args:
            id: The id.

        Returns:
            The row.

        Raises:
            QueryError: There is no such row.
        """
        searcher, position = self._find(id)
        return build_hits(searcher.snapshot(), RankedRows(position, np.ones(1)))[0]

    def _query_of(self, row: str) -> Query:
        searcher, position = self._find(row)
        snapshot = searcher.snapshot()
        hit = build_hits(snapshot, RankedRows(position, np.ones(1)))[0]
        vector = to_unit_vectors(snapshot.vectors_at(position), self.table.info.dim)[0]
        return Query(vector, "text" if hit.kind == "text" else "audio", row, exclude=frozenset({row}))

    def _find(self, row: str) -> tuple[Searcher, RowPositions]:
        self._check_process()
        for searcher in self._searchers:
            position = searcher.snapshot().positions_of([row])
            if len(position):
                return searcher, position[:1]  # a table that somebody else wrote may hold an id twice
        raise QueryError(f"there is no row of the id {row!r}")

    def _check_process(self) -> None:
        """Start anew in a forked process: a lock may be held by a thread that it does not have."""
        if self._process != os.getpid():
            limit_threads_after_fork()
            self._start()


def _reopen(opened: type[OpenTables], places: Sequence[tuple[str, str]], *arguments: Any) -> OpenTables:
    return opened([Database(location).table(name) for location, name in places], *arguments)
