"""Import and export of embeddings: `.npy` matrices and Parquet metadata, the layout of clip-retrieval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from clara_search.errors import EncoderMismatch, FormatError, OutputError
from clara_search.files.atomic import atomic_folder
from clara_search.files.paths import normalize_path
from clara_search.models.base import Encoder
from clara_search.store.database import DEFAULT_TABLE, Database
from clara_search.store.keyed_table import KeyedTable
from clara_search.store.schema import CORE_COLUMNS, TableInfo, read_info
from clara_search.store.table import Table
from indexer.ledger.digest_map import DigestMap, digest
from indexer.ledger.entry import LedgerRecord, row_ids, segment_windows
from indexer.ledger.failures import LEDGER_KEY, ledger_name, stored_ledger
from indexer.ledger.reconcile import open_ledger
from indexer.sources.columns import ColumnType, arrow_type
from indexer.sources.embedding_files import EmbeddingFiles, read_entries
from indexer.sources.item import Item
from indexer.write.table import resolve_encoder
from indexer.write.widening import widen_columns

_LEDGER_FOLDER = "ledger"


def export_embeddings(database: Database | str | Path, folder: str | Path, table: str = DEFAULT_TABLE) -> int:
    """Write the rows of a table to a new folder.

    The folder gets `embeddings/embeddings_0000.npy` (float32), `metadata/metadata_0000.parquet` and so on; row i of one
    belongs to row i of the other. `ledger/` has what was indexed, by which an import knows what need not be embedded
    again. The folder has its name only once it is complete.

    Args:
        database: The database, its folder or its URL.
        folder: The folder to create.
        table: Name of the table.

    Returns:
        Number of rows.

    Raises:
        OutputError: The folder exists, or cannot be written.
        DatabaseError: The table is missing or damaged.
    """
    database = database if isinstance(database, Database) else Database(database)
    corpus = database.table(table)
    target = Path(normalize_path(folder))
    if target.exists():
        raise OutputError(f"{target}: exists already: name a new folder")
    with atomic_folder(target) as partial:
        _write_ledger(database, corpus, partial / _LEDGER_FOLDER)
        return _write_embeddings(corpus, partial)


def _write_ledger(database: Database, corpus: Table, folder: Path) -> None:
    folder.mkdir(parents=True)
    ledger = stored_ledger(database, corpus.name)
    for number, batch in enumerate(() if ledger is None else ledger.batches(ledger.schema.names)):
        entries = pa.Table.from_batches([batch]).replace_schema_metadata(corpus.schema.metadata)
        parquet.write_table(entries, folder / f"ledger_{number:04}.parquet")


def _write_embeddings(corpus: Table, folder: Path) -> int:
    for name in ("embeddings", "metadata"):
        (folder / name).mkdir(parents=True)
    rows = 0
    nothing = pa.RecordBatch.from_pylist([], schema=corpus.schema)
    for number, batch in enumerate(corpus.batches(corpus.schema.names) if corpus.count() else [nothing]):
        vectors = batch["vector"].flatten().to_numpy(zero_copy_only=False).reshape(batch.num_rows, corpus.info.dim)
        np.save(folder / "embeddings" / f"embeddings_{number:04}.npy", vectors.astype(np.float32))
        metadata = pa.Table.from_batches([batch]).drop_columns(["vector"])
        metadata = metadata.replace_schema_metadata(corpus.schema.metadata)
        parquet.write_table(metadata, folder / "metadata" / f"metadata_{number:04}.parquet")
        rows += batch.num_rows
    return rows


def import_embeddings(
    vectors: str | Path,
    metadata: str | Path,
    database: Database | str | Path,
    encoder: Encoder | str | Path | None = None,
    table: str = DEFAULT_TABLE,
    *,
    window_s: float = 10.0,
    hop_s: float = 5.0,
) -> int:
    """Write embeddings that `encoder` made elsewhere into a table; all of them, or none if one cannot be used.

    What `export_embeddings` wrote comes back as it was. The metadata of other tools have a column `uri`, `path` or
    `url`, relative to their file, and, optionally, `text` or `caption`, `start_s` and `end_s`, `language`, `kind`,
    `content_hash` and further columns; a row with nothing but a text is a text. A further column whose name the table
    uses itself is kept as `source_NAME`, and so are kinds other than audio and text, such as speech. A recording with
    content hashes and all of its windows counts as indexed: `index` will not embed it again.

    Args:
        vectors: An `.npy` file of shape (n, dim), or a folder of them; vectors are scaled to unit norm.
        metadata: A Parquet file of n rows, or a folder of them, which match the `.npy` files in order of name.
        database: The database, its folder or its URL; it is created if it is missing.
        encoder: An encoder, or the name or folder of a model; None: the table's model, or the bundled one.
        table: Name of the table.
        window_s: Length of a window in seconds, for a new table of rows that were not exported.
        hop_s: Seconds from one window to the next, for such a table.

    Returns:
        Number of rows.

    Raises:
        FormatError: The files do not match, a vector is not finite, a row cannot be used, or two rows are of one
            window; the message has file and row.
        EncoderMismatch: Another encoder built the table, or made the embeddings that were exported.
    """
    database = database if isinstance(database, Database) else Database(database, create=True)
    encoder = resolve_encoder(encoder, database, table)
    files = [EmbeddingFiles(*pair) for pair in _pairs(_path(vectors), _path(metadata))]
    info = _table_info(files, encoder, window_s, hop_s)
    with database.commit_lock(table):
        if table not in database.table_names():
            database.drop_table(ledger_name(table))
            database.create_table(table, info)
    corpus = database.table(table)
    corpus.check_encoder(encoder)
    _check_rows(files, encoder.dim)
    entries = [path for file in files for path in file.sibling_files(_LEDGER_FOLDER)]
    ledger, _ = open_ledger(database, corpus)
    written, scattered = 0, set[str]()
    for rows in _all_rows(files, encoder.dim):
        with database.commit_lock(table):
            widen_columns(corpus, _further_types(rows.schema))
            corpus.upsert(rows)
            if not entries:
                records, incomplete = _records(rows.drop_columns(["vector"]), corpus)
                ledger.record(records)
                scattered |= incomplete
        written += rows.num_rows
    with database.commit_lock(table):
        for where in corpus.keys_in(sorted(scattered), "uri"):
            columns = [name for name in corpus.schema.names if name != "vector"]
            ledger.record(_records(corpus.scan(columns, where), corpus)[0])
        for path in dict.fromkeys(entries):
            KeyedTable(database, ledger_name(table), LEDGER_KEY).upsert(read_entries(path))
    open_ledger(database, corpus)  # forgets entries whose rows were not imported
    return written


def _path(path: str | Path) -> Path:
    return Path(normalize_path(path))


def _pairs(vectors: Path, metadata: Path) -> list[tuple[Path, Path]]:
    matrices = sorted(vectors.glob("*.npy")) if vectors.is_dir() else [vectors]
    rows = sorted(metadata.glob("*.parquet")) if metadata.is_dir() else [metadata]
    if not matrices or len(matrices) != len(rows):
        raise FormatError(f"{vectors} has {len(matrices)} .npy files, {metadata} has {len(rows)} .parquet files")
    return list(zip(matrices, rows, strict=True))


def _table_info(files: Sequence[EmbeddingFiles], encoder: Encoder, window_s: float, hop_s: float) -> TableInfo:
    """Return the metadata of a new table: those of the table that was exported, if one was.

    Raises:
        EncoderMismatch: Another encoder made the embeddings.
        DatabaseError: The metadata are broken.
    """
    for file in files:
        if (exported := file.exported_schema()) is not None:
            info = read_info(exported, str(file.metadata))
            if info.fingerprint != encoder.fingerprint:
                raise EncoderMismatch(
                    f"{file.metadata} was exported from a table of {info.model.name} ({info.fingerprint[:8]}...); "
                    f"you import it with {encoder.name} ({encoder.fingerprint[:8]}...)"
                )
            return info
    return TableInfo.of(encoder, window_s, hop_s)


def _all_rows(files: Sequence[EmbeddingFiles], dim: int) -> Iterator[pa.Table]:
    for file in files:
        yield from file.batches(dim)


def _further_types(schema: pa.Schema) -> dict[str, ColumnType]:
    types = {field.name: arrow_type(field.type) for field in schema if field.name not in CORE_COLUMNS}
    return {name: kind for name, kind in types.items() if kind is not None}


def _check_rows(files: Sequence[EmbeddingFiles], dim: int) -> None:
    """Read everything once, so that nothing is written if something is wrong.

    Raises:
        FormatError: A row cannot be used, or two have one id.
    """
    seen = DigestMap(1)
    for file in files:
        start = 0
        for rows in file.batches(dim):
            columns = (rows[name].to_pylist() for name in ("id", "uri", "start_s", "end_s"))
            for number, (id_, uri, start_s, end_s) in enumerate(zip(*columns, strict=True), start=start):
                if (before := seen.get(digest(id_))) is not None:
                    window = "without start_s and end_s" if start_s is None else f"from {start_s:g} to {end_s:g} s"
                    raise FormatError(
                        f"{file.metadata}, row {number}: '{uri}' {window} is there before, {len(seen) - before[0]} "
                        "rows above: rows of one recording need windows of their own"
                    )
                seen.put(digest(id_), len(seen))
            start += rows.num_rows


def _records(rows: pa.Table, corpus: Table) -> tuple[list[LedgerRecord], set[str]]:
    """Return ledger entries of the texts and of the recordings with all their windows, and the other recordings."""
    by_uri: dict[str, list[dict[str, Any]]] = {}
    further = [name for name in rows.schema.names if name not in CORE_COLUMNS]
    for row in rows.to_pylist():
        by_uri.setdefault(row["uri"], []).append(row)
    records, incomplete = list[LedgerRecord](), set[str]()
    for uri, uri_rows in by_uri.items():
        first = uri_rows[0]
        columns = {name: first[name] for name in further if first[name] is not None}
        item = Item("", first["kind"], uri, None, first["text"], first["language"], columns=columns)
        spans = sorted((row["start_s"], row["end_s"]) for row in uri_rows if row["start_s"] is not None)
        if item.kind == "text" and not spans:
            records.append(LedgerRecord(item, first["content_hash"], ""))
        elif spans and {row["id"] for row in uri_rows} == _ids(uri, spans, corpus):
            records.append(LedgerRecord(item, first["content_hash"], "", None, spans[0][0], _end(spans)))
        elif spans:
            incomplete.add(uri)
    return records, incomplete


def _ids(uri: str, spans: Sequence[tuple[float, float]], corpus: Table) -> set[str]:
    """Return the ids of all windows of a recording that ends where `spans` end."""
    return set(row_ids(uri, segment_windows(spans[0][0], _end(spans), corpus.info)))


def _end(spans: Sequence[tuple[float, float]]) -> float:
    return max(end for _, end in spans)
