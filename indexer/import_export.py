"""Import and export of embeddings: `.npy` matrices and Parquet metadata, the layout of clip-retrieval."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import parquet

from clara_search.errors import FormatError, OutputError
from clara_search.files.atomic import atomic_folder
from clara_search.files.paths import normalize_path
from clara_search.models.base import Embeddings, Encoder
from clara_search.store.database import DEFAULT_TABLE, Database
from clara_search.store.schema import CORE_COLUMNS, TableInfo
from clara_search.store.table import Table, row_id
from indexer.ledger.failures import ledger_name
from indexer.ledger.ledger import LedgerRecord, row_ids, segment_windows
from indexer.ledger.reconcile import open_ledger
from indexer.sources.item import Item
from indexer.write.table import resolve_encoder

_BATCH_ROWS = 8192
_URI_COLUMNS = ("uri", "path", "url", "audio_path", "image_path")
_TEXT_COLUMNS = ("text", "caption")


def export_embeddings(database: Database | str | Path, folder: str | Path, table: str = DEFAULT_TABLE) -> int:
    """Write the rows of a table to a new folder.

    The folder gets `embeddings/embeddings_0000.npy` (float32), `metadata/metadata_0000.parquet` and so on; row i of one
    belongs to row i of the other. It has its name only once it is complete.

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
        return _write_embeddings(corpus, partial)


def _write_embeddings(corpus: Table, folder: Path) -> int:
    for name in ("embeddings", "metadata"):
        (folder / name).mkdir(parents=True)
    rows = 0
    for number, batch in enumerate(corpus.batches(corpus.schema.names)):
        vectors = batch["vector"].flatten().to_numpy(zero_copy_only=False).reshape(batch.num_rows, -1)
        np.save(folder / "embeddings" / f"embeddings_{number:04}.npy", vectors.astype(np.float32))
        metadata = pa.Table.from_batches([batch]).drop_columns(["vector"])
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
    """Write embeddings that `encoder` made elsewhere into a table.

    The metadata have a column `uri`, `path` or `url` and, optionally, `text` or `caption`, `start_s`, `end_s`,
    `content_hash` and further columns; a row with nothing but a text is a text. A recording with content hashes and all
    of its windows counts as indexed: `index` will not embed it again.

    Args:
        vectors: An `.npy` file of shape (n, dim), or a folder of them; vectors are scaled to unit norm.
        metadata: A Parquet file of n rows, or a folder of them, which match the `.npy` files in order of name.
        database: The database, its folder or its URL; it is created if it is missing.
        encoder: An encoder, or the name or folder of a model; None: the table's model, or the bundled one.
        table: Name of the table.
        window_s: Length of a window in seconds, for a new table.
        hop_s: Seconds from one window to the next, for a new table.

    Returns:
        Number of rows.

    Raises:
        FormatError: The files do not match, or a vector is not finite; the message has file and row.
        EncoderMismatch: Another encoder built the table.
    """
    database = database if isinstance(database, Database) else Database(database, create=True)
    encoder = resolve_encoder(encoder, database, table)
    with database.commit_lock(table):
        if table not in database.table_names():
            database.drop_table(ledger_name(table))
            database.create_table(table, TableInfo.of(encoder, window_s, hop_s))
    corpus = database.table(table)
    corpus.check_encoder(encoder)
    ledger, _ = open_ledger(database, corpus)
    written = 0
    for matrix_file, rows_file in _pairs(Path(normalize_path(vectors)), Path(normalize_path(metadata))):
        for rows in _row_batches(matrix_file, rows_file, encoder.dim):
            with database.commit_lock(table):
                corpus.upsert(rows)
                ledger.record(_records(rows, corpus))
            written += rows.num_rows
    return written


def _pairs(vectors: Path, metadata: Path) -> list[tuple[Path, Path]]:
    matrices = sorted(vectors.glob("*.npy")) if vectors.is_dir() else [vectors]
    rows = sorted(metadata.glob("*.parquet")) if metadata.is_dir() else [metadata]
    if not matrices or len(matrices) != len(rows):
        raise FormatError(f"{vectors} has {len(matrices)} .npy files, {metadata} has {len(rows)} .parquet files")
    return list(zip(matrices, rows, strict=True))


def _row_batches(matrix_file: Path, rows_file: Path, dim: int) -> Iterator[pa.Table]:
    """Yield the rows of a pair of files as a corpus table stores them."""
    try:
        matrix = np.load(matrix_file, mmap_mode="r", allow_pickle=False)
        rows = parquet.ParquetFile(rows_file)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise FormatError(f"{matrix_file} or {rows_file}: cannot be read ({error})") from error
    if matrix.ndim != 2 or matrix.shape[1] != dim or len(matrix) != rows.metadata.num_rows:
        raise FormatError(
            f"{matrix_file} has shape {matrix.shape}, {rows_file} has {rows.metadata.num_rows} rows: expected "
            f"({rows.metadata.num_rows}, {dim})"
        )
    start = 0
    for batch in rows.iter_batches(_BATCH_ROWS):
        yield _rows(
            _to_unit_norm(matrix[start : start + batch.num_rows], f"{matrix_file}, row {start}"), batch, rows_file
        )
        start += batch.num_rows


def _to_unit_norm(matrix: npt.NDArray[Any], where: str) -> Embeddings:
    vectors = np.asarray(matrix, dtype=np.float32)
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    if not (np.isfinite(norms).all() and (norms > 0).all()):
        worst = int(np.flatnonzero(~np.isfinite(norms[:, 0]) | (norms[:, 0] <= 0))[0])
        raise FormatError(f"{where} + {worst}: the vector is zero or not finite")
    return np.asarray(vectors / norms, dtype=np.float32)


def _rows(vectors: Embeddings, batch: pa.RecordBatch, file: Path) -> pa.Table:
    values = {name: batch[name].to_pylist() for name in batch.schema.names}
    count = batch.num_rows
    texts = _first(values, _TEXT_COLUMNS) or [None] * count
    uris = _first(values, _URI_COLUMNS) or [None] * count
    starts, ends = (values.get(name) or [None] * count for name in ("start_s", "end_s"))
    kinds = values.get("kind") or ["text" if uri is None else "audio" for uri in uris]
    for number, (uri, text) in enumerate(zip(uris, texts, strict=True)):
        if uri is None and text is None:
            raise FormatError(f"{file}: row {number} has neither a uri nor a text")
    uris = [f"text:{_hash(text)[:32]}" if uri is None else str(uri) for uri, text in zip(uris, texts, strict=True)]
    hashes = values.get("content_hash") or [None] * count
    known = {*CORE_COLUMNS, *_URI_COLUMNS, *_TEXT_COLUMNS}
    further = {name: batch[name] for name in batch.schema.names if name not in known}
    return pa.table(
        {
            "id": [row_id(*span) for span in zip(uris, starts, ends, strict=True)],
            "kind": kinds,
            "uri": uris,
            "start_s": pa.array(starts, pa.float64()),
            "end_s": pa.array(ends, pa.float64()),
            "text": pa.array(texts, pa.string()),
            "language": pa.array(values.get("language") or [None] * count, pa.string()),
            # Without a content hash the name is hashed: `index` sees another content, and embeds it.
            "content_hash": [hashed or _hash(uri) for hashed, uri in zip(hashes, uris, strict=True)],
            "vector": pa.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1]),
            **further,
        }
    )


def _first(values: dict[str, list[Any]], names: Sequence[str]) -> list[Any] | None:
    return next((values[name] for name in names if name in values), None)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _records(rows: pa.Table, corpus: Table) -> list[LedgerRecord]:
    """Return ledger entries of the texts, and of the recordings with all of their windows."""
    by_uri: dict[str, list[dict[str, Any]]] = {}
    further = [name for name in rows.schema.names if name not in CORE_COLUMNS]
    for row in rows.drop_columns(["vector"]).to_pylist():
        by_uri.setdefault(row["uri"], []).append(row)
    records = []
    for uri, uri_rows in by_uri.items():
        first = uri_rows[0]
        columns = {name: first[name] for name in further if first[name] is not None}
        item = Item("", first["kind"], uri, None, first["text"], first["language"], columns=columns)
        spans = sorted((row["start_s"], row["end_s"]) for row in uri_rows if row["start_s"] is not None)
        if item.kind == "text" and not spans:
            records.append(LedgerRecord(item, first["content_hash"], ""))
        elif spans and {row["id"] for row in uri_rows} == _ids(uri, spans, corpus):
            records.append(LedgerRecord(item, first["content_hash"], "", None, spans[0][0], _end(spans)))
    return records


def _ids(uri: str, spans: Sequence[tuple[float, float]], corpus: Table) -> set[str]:
    """Return the ids of all windows of a recording that ends where `spans` end."""
    return set(row_ids(uri, segment_windows(spans[0][0], _end(spans), corpus.info)))


def _end(spans: Sequence[tuple[float, float]]) -> float:
    return max(end for _, end in spans)
