"""Verify a table: read every row, embed a sample again, and repair on request."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from clara_search.audio.decode import AudioSource, decode_audio
from clara_search.errors import ClaraError, DatabaseError
from clara_search.files import confined
from clara_search.files.gate import ForeignUri, RefusedUri, admit
from clara_search.files.paths import NamedBytes, is_remote, read_bytes, stat_file
from clara_search.models.base import Embeddings, Encoder
from clara_search.models.registry import load_encoder
from clara_search.store.database import Database
from clara_search.store.fsync import sync_folder
from clara_search.store.keyed_table import KeyedTable
from clara_search.store.table import Table

DEFAULT_SAMPLE_SIZE = 16
"""Number of rows to embed again."""

_NORM_TOLERANCE = 1e-3
_MIN_COSINE = 0.99  # other precisions and other BLAS libraries stay well above, another recording far below
_MAX_ROLLBACK_VERSIONS = 8
_MAX_DISTURBED = 5
"""Times that a table is read again since somebody wrote to it meanwhile."""

_SEED = 0


@dataclass(frozen=True)
class Finding:
    """The result of one check of a table.

    Attributes:
        table: Name of the table.
        check: Name of the check.
        ok: Whether the table passed, or was repaired.
        detail: The result in words.
        repaired: Whether something was repaired.
    """

    table: str
    check: str
    ok: bool
    detail: str
    repaired: bool = False


@dataclass
class _Rows:
    """Ids of bad rows, and a sample, from reading all rows of a table."""

    count: int = 0
    bad_vectors: list[str] = field(default_factory=list)
    without_hash: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    sample: list[dict[str, Any]] = field(default_factory=list)


def verify(
    database: Database,
    name: str,
    repair: bool = False,
    sample_size: int = DEFAULT_SAMPLE_SIZE,
    encoder: Encoder | None = None,
    fetch: bool = False,
    device: str | None = None,
    model: str | None = None,
) -> Iterator[Finding]:
    """Check a table, and repair it on request.

    A repair rolls a table that cannot be read back to its newest readable version. It deletes rows with a vector that
    is not finite or not of unit norm, rows without a content hash, and rows that differ from their source embedded
    again: the next `index` of their source writes them anew.

    Args:
        database: The database.
        name: Name of the corpus table.
        repair: Whether to repair.
        sample_size: Number of rows to embed again.
        encoder: The encoder that built the table; by default `model` is loaded.
        fetch: Whether to open URLs for rows to embed again: whoever wrote the table chose them.
        device: Device to load the encoder on, as in `load_encoder`.
        model: Name, folder or hub id of the model; by default the one that the table records, if it is bundled or on
            this machine.

    Yields:
        The result of each check: "files", "vectors", "ids", "hashes", "encoder" and "sample".

    Raises:
        DatabaseError: A folder of the database holds a link.
    """
    files, rows = _open_readable(database, name, "id", sample_size, repair)
    yield Finding(name, "files", *files)
    if rows is None:
        return
    table = database.table(name)
    unit = "finite and of unit norm"
    yield _delete_bad(table, "vectors", rows.bad_vectors, f"{rows.count} vectors are {unit}", f"are not {unit}", repair)
    yield _merge_duplicates(table, rows.duplicates, repair)
    yield _delete_bad(
        table, "hashes", rows.without_hash, "all rows have a content hash", "have no content hash", repair
    )
    try:
        encoder = encoder or load_encoder(model or table.info.model, device=device)
        table.check_encoder(encoder)
    except ClaraError as error:
        yield Finding(name, "encoder", False, f"rows cannot be embedded again: {error}")
    else:
        yield Finding(name, "encoder", True, f"{encoder.name}, {encoder.fingerprint[:8]}...")
        yield _check_sample(table, rows.sample, encoder, repair, fetch)


def verify_files(database: Database, name: str, key: str, repair: bool = False) -> Finding:
    """Check that a table of any schema can be read.

    Args:
        database: The database.
        name: Name of the table.
        key: The column that identifies its rows.
        repair: Whether to roll it back to its newest readable version.

    Returns:
        The result of the check "files".

    Raises:
        DatabaseError: A folder of the database holds a link.
    """
    return Finding(name, "files", *_open_readable(database, name, key, 0, repair)[0])


def _open_readable(
    database: Database, name: str, key: str, sample_size: int, repair: bool
) -> tuple[tuple[Any, ...], _Rows | None]:
    """Open and read a table; with `repair`, roll it back to its newest readable version."""
    folder = database.table_folder(name)
    versions = folder / "_versions" if folder else None
    set_aside: list[Path] = []
    disturbed = 0
    while True:
        seen = _manifests(versions)[:1]
        fresh = Database(database.location)  # a connection caches what it read
        try:
            table = KeyedTable(fresh, name, key)
            rows = _read_rows(table, sample_size)
        except DatabaseError as error:
            manifests = _manifests(versions)
            if manifests[:1] != seen and disturbed < _MAX_DISTURBED:  # a run may have deleted what was being read
                disturbed += 1
                continue
            if versions and repair and len(manifests) > 1 and len(set_aside) < _MAX_ROLLBACK_VERSIONS:
                set_aside.append(confined.rename(database.path, manifests[0], manifests[0].with_suffix(".damaged")))
                sync_folder(versions)
                continue
            for path in set_aside:
                confined.rename(database.path, path, path.with_suffix(".manifest"))
            hint = "none of its last versions is readable" if repair else "`repair` rolls it back to a readable version"
            return (False, f"{error}; {hint}"), None
        if set_aside:
            detail = f"rolled back {len(set_aside)} version(s), to {table.version}, with {rows.count} rows"
            return (True, f"{detail}; run `clara-search index` again", True), rows
        return (True, f"version {table.version}, {rows.count} rows, all readable"), rows


def _manifests(versions: Path | None) -> list[Path]:
    """Return the manifests of the versions in a folder, the newest first: Lance counts down in file names."""
    return sorted(versions.glob("[0-9]*.manifest")) if versions else []


def _read_rows(table: KeyedTable, sample_size: int) -> _Rows:
    """Read all rows of a table, and check those of a corpus table."""
    rows, rng = _Rows(), random.Random(_SEED)
    digests = []
    columns = table.schema.names
    for batch in table.batches(columns):
        if "vector" in columns:
            digests.append(_check(batch, rows))
            for number in range(batch.num_rows):  # reservoir sampling
                position = number + rows.count
                slot = position if position < sample_size else rng.randrange(position + 1)
                if slot < sample_size:
                    row = batch.slice(number, 1).to_pylist()[0]
                    rows.sample[slot : slot + 1] = [row]
        rows.count += batch.num_rows
    joined = np.concatenate(digests) if digests else np.zeros(0, np.uint64)
    values, counts = np.unique(joined, return_counts=True)
    if (counts > 1).any():
        repeated = set(values[counts > 1].tolist())
        for batch in table.batches(["id"]):
            rows.duplicates += [id_ for id_ in batch["id"].to_pylist() if _digest(id_) in repeated]
    return rows


def _check(batch: Any, rows: _Rows) -> np.ndarray[Any, np.dtype[np.uint64]]:
    ids = batch["id"].to_pylist()
    vectors = batch["vector"].flatten().to_numpy(zero_copy_only=False).reshape(len(ids), -1)
    with np.errstate(all="ignore"):
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    good = np.isfinite(norms) & (np.abs(norms - 1.0) <= _NORM_TOLERANCE)
    rows.bad_vectors += [id_ for id_, is_good in zip(ids, good.tolist(), strict=True) if not is_good]
    hashes = batch["content_hash"].to_pylist()
    rows.without_hash += [id_ for id_, content_hash in zip(ids, hashes, strict=True) if not content_hash]
    return np.array([_digest(id_) for id_ in ids], np.uint64)


def _digest(id_: str) -> int:
    return int.from_bytes(hashlib.blake2b(id_.encode(), digest_size=8).digest())


def _delete_bad(table: Table, check: str, ids: list[str], good: str, bad: str, repair: bool) -> Finding:
    """Return the finding of bad rows, deleted with `repair`."""
    if not ids:
        return Finding(table.name, check, True, good)
    if repair:
        table.delete_ids(ids)
    done = ": deleted, run `clara-search index` again" if repair else ""
    return Finding(table.name, check, repair, f"{len(ids)} rows {bad}{done}", repair)


def _merge_duplicates(table: Table, ids: list[str], repair: bool) -> Finding:
    """Return the finding of ids of several rows; with `repair` one row of each stays."""
    if not ids:
        return Finding(table.name, "ids", True, "all ids are unique")
    unique = sorted(set(ids))
    if repair:
        duplicates = [table.scan(table.schema.names, where) for where in table.keys_in(unique)]
        table.delete_ids(unique)
        for rows in duplicates:
            table.upsert(rows)
    done = ": one row of each stays" if repair else ""
    return Finding(table.name, "ids", repair, f"{len(unique)} ids have several rows{done}", repair)


def _check_sample(table: Table, rows: list[dict[str, Any]], encoder: Encoder, repair: bool, fetch: bool) -> Finding:
    """Embed the rows of a sample again and compare."""
    different, compared, changed, unreachable, refused, unopened = [], 0, 0, 0, 0, 0
    for row in rows:
        try:
            uri = admit(ForeignUri(table.names.resolve(str(row["uri"])))) if row["kind"] == "audio" else ""
            if is_remote(uri) and not fetch:
                unopened += 1
                continue
            vector = _embed_source(row, uri, encoder)
        except RefusedUri:
            refused += 1
            continue
        except (ClaraError, OSError, ValueError):
            unreachable += 1
            continue
        if vector is None:
            changed += 1
            continue
        compared += 1
        if not float((vector @ np.asarray(row["vector"], np.float32)).max()) >= _MIN_COSINE:
            different.append(row["id"])
    counted = f"{compared} of {len(rows)} rows embedded again"
    others = [f"{changed} changed since"] * bool(changed) + [f"{unreachable} unreachable"] * bool(unreachable)
    others += [f"{unopened} at URLs not opened (`fetch` opens them)"] * bool(unopened)
    others += [f"{refused} with URIs that a table may not name"] * bool(refused)
    counted = ", ".join([counted, *others])
    bad = f"differ from their source ({counted})"
    return _delete_bad(table, "sample", different, f"{counted}: equal", bad, repair)


def _embed_source(row: dict[str, Any], uri: str, encoder: Encoder) -> Embeddings | None:
    """Embed the source of a row as it is now, shape (tracks, dim); None if it has changed."""
    if row["kind"] == "text":
        return encoder.encode_text([row["text"]], row["language"])
    if not is_remote(uri):
        stat_file(uri)  # raises for a pipe, which would block
    content = read_bytes(uri)
    if hashlib.sha256(content).hexdigest() != row["content_hash"]:
        return None
    source = AudioSource.of(NamedBytes(content, uri))
    decode = partial(decode_audio, source, encoder.sample_rate, row["start_s"], row["end_s"])
    default = decode()
    # A row does not tell which of several tracks it is from.
    others = [decode(track).waveform for track in range(1, default.tracks + 1)] if default.tracks > 1 else []
    return encoder.encode_audio([default.waveform, *others])
