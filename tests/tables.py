"""Corpus tables of given or random vectors."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa

from clara_search.store.database import Database
from clara_search.store.schema import TableInfo
from tests.helpers import DIM, ToneEncoder

INFO = TableInfo.of(ToneEncoder(), window_s=1.0, hop_s=0.5)


def unit_vectors(n, dim=DIM, seed=0, clusters=None):
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(n, dim))
    if clusters:
        vectors = generator.normal(size=(clusters, dim))[generator.integers(0, clusters, n)] + 0.3 * vectors
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def rows(vectors, ids=None, kind="audio", language="en", text=None, **extra):
    """Rows for `Table.upsert`: one recording each, named after its id."""
    n = len(vectors)
    ids = [f"{number:06d}" for number in range(n)] if ids is None else list(ids)
    columns = {
        "id": ids,
        "kind": [kind] * n if isinstance(kind, str) else kind,
        "uri": [f"/sounds/{name}.wav" for name in ids],
        "start_s": [0.0] * n,
        "end_s": [1.0] * n,
        "text": [text or f"text {name}" for name in ids],
        "language": [language] * n if isinstance(language, str) else language,
        "content_hash": [hashlib.sha256(vector.tobytes()).hexdigest() for vector in vectors],
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(np.ravel(vectors)), vectors.shape[1]),
    }
    return pa.table({**columns, **extra})


def table_of(database: Database, vectors, name="corpus", info=INFO, **columns):
    table = database.create_table(name, info)
    table.upsert(rows(vectors, **columns))
    return table
