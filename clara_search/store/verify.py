"""Is a table whole? Every row is looked at, some are embedded again; what can be mended is mended on request."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from clara_search.audio.decode import load_audio
from clara_search.audio.windows import Window, crop
from clara_search.errors import ClaraError, DatabaseError
from clara_search.files import confined
from clara_search.files.fsync import sync_folder
from clara_search.files.gate import ForeignUri, RefusedUri, admit
from clara_search.files.paths import NamedBytes, is_remote, read_bytes, stat_file
from clara_search.models.base import Embeddings, Encoder
from clara_search.models.registry import load_encoder
from clara_search.store.database import Database
from clara_search.store.keyed_table import KeyedTable
from clara_search.store.table import Table

SAMPLE = 16
"""So many rows are embedded again."""

_NORM_TOLERANCE = 1e-3
_LOWEST_COSINE = 0.99  # another precision, or another way to multiply, is well above; another recording far below
_MOST_VERSIONS_BACK = 8
_SEED = 0


@dataclass(frozen=True)
class Finding:
    """One check of a table, what it found, and whether what it found was mended."""

    table: str
    check: str
    ok: bool
    detail: str
    repaired: bool = False


@dataclass
class _Rows:
    """What reading all rows of a table showed."""

    count: int = 0
    broken: list[str] = field(default_factory=list)
    unhashed: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    sample: list[dict[str, Any]] = field(default_factory=list)


def verify(
    database: Database,
    name: str,
    repair: bool = False,
    sample: int = SAMPLE,
    encoder: Encoder | None = None,
    fetch: bool = False,
) -> Iterator[Finding]:
    """Check the table `name`, and mend it where `repair` is true; yield what was found, check by check.

    A version that cannot be read is given up for the one before. Rows with a vector that is not finite or not of unit
    norm, without a content hash, or unlike their recording embedded again, are deleted: the next `index` of their
    source, which misses them, writes them anew. `encoder` is the one that built the table, for whoever has it loaded.
    Raises DatabaseError where a folder of the database holds a link.
    A recording at a URL is embedded again only with `fetch`: whoever wrote the table chose whom this machine asks.
    """
    opening, rows = _open_whole(database, name, "id", sample, repair)
    yield Finding(name, "files", *opening)
    if rows is None:
        return
    table = database.table(name)
    unit = "finite and of unit norm"
    yield _mended(table, "vectors", rows.broken, f"{rows.count} vectors are {unit}", f"are not {unit}", repair)
    yield _unique(table, rows.doubled, repair)
    yield _mended(table, "hashes", rows.unhashed, "all rows have a content hash", "have no content hash", repair)
    try:
        encoder = encoder or load_encoder(table.info.encoder)
        table.check_encoder(encoder)
    except ClaraError as error:
        yield Finding(name, "encoder", False, f"rows cannot be embedded again: {error}")
    else:
        yield Finding(name, "encoder", True, f"{encoder.name}, {encoder.fingerprint[:8]}...")
        yield _sampled(table, rows.sample, encoder, repair, fetch)


def verify_files(database: Database, name: str, key: str, repair: bool = False) -> Finding:
    """Read the whole table `name`, of any schema, whose rows the column `key` tells apart.

    A version that cannot be read is given up for the one before where `repair` is true.
    """
    return Finding(name, "files", *_open_whole(database, name, key, 0, repair)[0])


def _open_whole(
    database: Database, name: str, key: str, sample: int, repair: bool
) -> tuple[tuple[Any, ...], _Rows | None]:
    """Open and read a table; with `repair`, step back to its newest version that can be read."""
    folder = database.table_folder(name)
    versions = folder / "_versions" if folder else None
    set_aside: list[Path] = []
    while True:
        fresh = Database(database.location)  # a connection remembers what it read
        try:
            table = KeyedTable(fresh, name, key)
            rows = _read(table, sample)
        except DatabaseError as error:
            # Lance counts down: the newest comes first.
            heads = sorted(versions.glob("[0-9]*.manifest")) if versions else []
            if versions and repair and len(heads) > 1 and len(set_aside) < _MOST_VERSIONS_BACK:
                set_aside.append(confined.rename(database.path, heads[0], heads[0].with_suffix(".damaged")))
                sync_folder(versions)
                continue
            for path in set_aside:
                confined.rename(database.path, path, path.with_suffix(".manifest"))
            hint = "no whole version of it was found near" if repair else "--repair goes back to a whole version"
            return (False, f"{error}; {hint}"), None
        if set_aside:
            detail = f"went back {len(set_aside)} version(s), to {table.version}, with {rows.count} rows"
            return (True, f"{detail}; run `clara-search index` again", True), rows
        return (True, f"version {table.version}, {rows.count} rows, all read"), rows


def _read(table: KeyedTable, sample: int) -> _Rows:
    """Read all of a table, and look at each row of a corpus."""
    rows, rng = _Rows(), random.Random(_SEED)
    digests = []
    columns = table.schema.names
    for batch in table.batches(columns):
        if "vector" in columns:
            digests.append(_check(batch, rows))
            for number in range(batch.num_rows):  # every row has the same chance, whatever their number will be
                place = number + rows.count
                slot = place if place < sample else rng.randrange(place + 1)
                if slot < sample:
                    row = batch.slice(number, 1).to_pylist()[0]
                    rows.sample[slot : slot + 1] = [row]
        rows.count += batch.num_rows
    joined = np.concatenate(digests) if digests else np.zeros(0, np.uint64)
    values, counts = np.unique(joined, return_counts=True)
    if (counts > 1).any():
        twice = set(values[counts > 1].tolist())
        for batch in table.batches(["id"]):
            rows.doubled += [id_ for id_ in batch["id"].to_pylist() if _digest(id_) in twice]
    return rows


def _check(batch: Any, rows: _Rows) -> np.ndarray[Any, np.dtype[np.uint64]]:
    ids = batch["id"].to_pylist()
    vectors = batch["vector"].flatten().to_numpy(zero_copy_only=False).reshape(len(ids), -1)
    with np.errstate(all="ignore"):
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    good = np.isfinite(norms) & (np.abs(norms - 1.0) <= _NORM_TOLERANCE)
    rows.broken += [id_ for id_, is_good in zip(ids, good.tolist(), strict=True) if not is_good]
    rows.unhashed += [id_ for id_, hashed in zip(ids, batch["content_hash"].to_pylist(), strict=True) if not hashed]
    return np.array([_digest(id_) for id_ in ids], np.uint64)


def _digest(id_: str) -> int:
    return int.from_bytes(hashlib.blake2b(id_.encode(), digest_size=8).digest())


def _mended(table: Table, check: str, ids: list[str], good: str, bad: str, repair: bool) -> Finding:
    if not ids:
        return Finding(table.name, check, True, good)
    if repair:
        table.delete_ids(ids)
    done = ": deleted, run `clara-search index` again" if repair else ""
    return Finding(table.name, check, repair, f"{len(ids)} rows {bad}{done}", repair)


def _unique(table: Table, ids: list[str], repair: bool) -> Finding:
    if not ids:
        return Finding(table.name, "ids", True, "no id is there twice")
    twice = sorted(set(ids))
    if repair:
        kept = [table.scan(table.schema.names, where) for where in table.keys_in(twice)]
        table.delete_ids(twice)
        for rows in kept:
            table.upsert(rows)
    done = ": one of each is kept" if repair else ""
    return Finding(table.name, "ids", repair, f"{len(twice)} ids are there more than once{done}", repair)


def _sampled(table: Table, rows: list[dict[str, Any]], encoder: Encoder, repair: bool, fetch: bool) -> Finding:
    """Embed the rows of a sample again and compare."""
    unlike, compared, changed, away, refused, unopened = [], 0, 0, 0, 0, 0
    for row in rows:
        try:
            uri = admit(ForeignUri(str(row["uri"]))) if row["kind"] == "audio" else ""
            if is_remote(uri) and not fetch:
                unopened += 1
                continue
            vector = _embedded(row, uri, encoder)
        except RefusedUri:
            refused += 1
            continue
        except (ClaraError, OSError, ValueError):
            away += 1
            continue
        if vector is None:
            changed += 1
            continue
        compared += 1
        if not float(vector[0] @ np.asarray(row["vector"], np.float32)) >= _LOWEST_COSINE:
            unlike.append(row["id"])
    counted = f"{compared} of {len(rows)} rows embedded again"
    others = [f"{changed} changed since"] * bool(changed) + [f"{away} out of reach"] * bool(away)
    others += [f"{unopened} at URLs not opened (--fetch opens them)"] * bool(unopened)
    others += [f"{refused} with names that no table may have opened"] * bool(refused)
    counted = ", ".join([counted, *others])
    bad = f"are unlike what their source gives ({counted})"
    return _mended(table, "sample", unlike, f"{counted}: alike", bad, repair)


def _embedded(row: dict[str, Any], uri: str, encoder: Encoder) -> Embeddings | None:
    """Return the vector of what a row stands for now, shape (1, dim), or None where that has changed."""
    if row["kind"] == "text":
        return encoder.encode_text([row["text"]], row["language"])
    if not is_remote(uri):
        stat_file(uri)  # raises where it is no file: a pipe would let this wait for ever
    content = read_bytes(uri)
    if hashlib.sha256(content).hexdigest() != row["content_hash"]:
        return None
    waveform = load_audio(NamedBytes(content, uri), encoder.sample_rate)
    return encoder.encode_audio([crop(waveform, Window(row["start_s"], row["end_s"]), encoder.sample_rate)])
