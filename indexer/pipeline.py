"""The indexer: items -> waveforms -> windows -> embeddings -> rows, as one stream that can be cut off anywhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from clara_search.audio import DEFAULT_HOP_S, DEFAULT_WINDOW_S
from clara_search.encoder import Encoder
from clara_search.errors import DatabaseError, FormatError
from clara_search.store import DEFAULT_TABLE, Database, Table, TableInfo, ledger_name
from indexer.decoding import load
from indexer.embedding import embed
from indexer.items import ColumnType, Item, Survey
from indexer.ledger import Digest, Ledger, digest
from indexer.sources import absolute, survey
from indexer.sources import items as list_items
from indexer.writing import Progress, Writer, arrow_columns

_COMPACT_AFTER_COMMITS = 16


@dataclass(frozen=True)
class Summary:
    """What a run did: items `indexed`, `unchanged` and `failed`; rows `removed`, and `rows` now in the table.

    `audio_s` is the length of the recordings that were embedded, `seconds` the wall time.
    """

    indexed: int
    unchanged: int
    failed: int
    removed: int
    rows: int
    audio_s: float
    seconds: float


def index(
    sources: Sequence[str | Path],
    database: Database,
    encoder: Encoder,
    table: str = DEFAULT_TABLE,
    *,
    window_s: float | None = None,
    hop_s: float | None = None,
    prune: bool = False,
    text_column: str | None = None,
    surveyed: Survey | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Bring `table` up to date with `sources`: embed what is new or changed, and leave the rest alone.

    Windows are 10 s long and 5 s apart unless said, or as the table has them already. With `prune`, the rows of what is
    no longer in the sources go. What cannot be used is stepped over and kept, with its reason, for
    `Database.failures`. `surveyed` is `survey(sources, text_column)`, for whoever has it already.

    An item is written with all its rows or not at all, and noted as done only then: the next run takes up one that was
    cut off. Raises FormatError for a source that is missing or broken, EncoderMismatch for another encoder's table,
    DatabaseError for other windows than the table's.
    """
    began = time.monotonic()
    surveyed = surveyed or survey(sources, text_column)
    paths = [absolute(source) for source in sources]
    if surveyed.items == 0 and not prune:
        raise FormatError(f"{', '.join(map(str, paths))}: no recordings found")
    corpus = _open_or_create(database, table, encoder, window_s, hop_s, surveyed)
    ledger = Ledger(database, corpus)
    listing = _Listing()
    writer = Writer(corpus, ledger, surveyed.columns, prune, progress)
    found = listing.once(list_items(sources, text_column))
    try:
        with closing(load(found, ledger, encoder.sample_rate)) as loaded:
            for embedded in embed(loaded, encoder, corpus.info.window_s, corpus.info.hop_s):
                writer.add(embedded)
    finally:  # also where it was interrupted: what is embedded is kept
        writer.commit()
    gone = [entry for entry in ledger.gone(paths, listing.has) if prune or (entry.failed and not entry.row_ids)]
    removed = corpus.delete_ids([row for entry in gone for row in entry.row_ids])
    ledger.forget([entry.key for entry in gone])
    if writer.commits >= _COMPACT_AFTER_COMMITS:
        corpus.compact()
    counts = writer.counts
    return Summary(
        indexed=counts["indexed"],
        unchanged=counts["unchanged"],
        failed=counts["failed"],
        removed=writer.removed + removed,
        rows=corpus.count(),
        audio_s=round(writer.audio_s, 3),
        seconds=round(time.monotonic() - began, 3),
    )


class _Listing:
    """What the sources listed so far, so that nothing is done twice in a run."""

    def __init__(self) -> None:
        self._seen: dict[Digest, Digest] = {}

    def has(self, key: str) -> bool:
        return digest(key) in self._seen

    def once(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield `items` without repetitions; the same recording with other columns becomes a problem."""
        for item in items:
            key, content = digest(item.key), digest(repr(replace(item, source="", line=None)))
            if key not in self._seen:
                self._seen[key] = content
                yield item
            elif self._seen[key] != content and item.line is not None:
                place = f"{item.source}#L{item.line}"
                self._seen[digest(place)] = b""
                problem = f"{item.uri} is listed before, with other columns: the first listing counts"
                yield Item(item.source, "text", place, item.line, problem=problem)


def _open_or_create(
    database: Database, name: str, encoder: Encoder, window_s: float | None, hop_s: float | None, surveyed: Survey
) -> Table:
    if name in database.table_names():
        table = database.table(name)
        table.check_encoder(encoder)
        info = table.info
        asked = (info.window_s if window_s is None else window_s, info.hop_s if hop_s is None else hop_s)
        if asked != (info.window_s, info.hop_s):
            raise DatabaseError(
                f"table '{name}' has windows of {info.window_s:g} s every {info.hop_s:g} s; you asked for "
                f"{asked[0]:g} s every {asked[1]:g} s: leave that out, or index into another --table"
            )
        _check_columns(table, surveyed.columns)
        return table
    window_s = DEFAULT_WINDOW_S if window_s is None else window_s
    hop_s = min(DEFAULT_HOP_S, window_s) if hop_s is None else hop_s
    if not 0 < hop_s <= window_s:
        raise FormatError(f"need 0 < hop <= window, got window {window_s} s and hop {hop_s} s")
    database.drop_table(ledger_name(name))  # of a table that somebody deleted
    info = TableInfo(encoder.name, encoder.fingerprint, encoder.dim, window_s, hop_s)
    return database.create_table(name, info, [pa.field(*column) for column in arrow_columns(surveyed.columns).items()])


def _check_columns(table: Table, columns: Mapping[str, ColumnType]) -> None:
    for name, found in arrow_columns(columns).items():
        if name not in table.schema.names:
            continue
        there = table.schema.field(name).type
        if there not in (found, pa.string()) and (found, there) != (pa.int64(), pa.float64()):
            raise FormatError(f"column '{name}' holds {found} now, but {there} in table '{table.name}'")
