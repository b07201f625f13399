"""The int8 scan leaves every row that may be among the nearest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clara_search.retrieval import snapshot as snapshot_module
from clara_search.retrieval.exact.quantized import QuantizedVectors
from clara_search.retrieval.exact.scan import rank_rows, run_parts, top_k
from clara_search.retrieval.index import Index
from clara_search.store.database import Database
from tests.helpers import ToneEncoder
from tests.tables import INFO, rows, unit_vectors


def normalized(vectors):
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), dtype=np.float32)


@settings(max_examples=100, deadline=None)
@given(
    n=st.integers(1, 3000),
    dim=st.sampled_from([1, 2, 3, 16, 100]),
    k=st.sampled_from([1, 7, 300, 4000]),
    clusters=st.integers(1, 20),
    spread=st.sampled_from([0.0, 1e-4, 0.1, 2.0]),
    outliers=st.sampled_from([0.01, 1.0, 50.0]),
    share=st.sampled_from([None, 0.0, 0.01, 0.5]),
    seed=st.integers(0, 1000),
)
def test_the_nearest_rows_are_among_the_candidates(n, dim, k, clusters, spread, outliers, share, seed):
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(clusters, dim))
    vectors = centres[generator.integers(0, clusters, n)] + spread * generator.normal(size=(n, dim))
    vectors[:, 0] *= outliers
    vectors = normalized(vectors)
    order = generator.permutation(n)
    allowed = None if share is None else np.flatnonzero(generator.random(n) < share)
    quantized = QuantizedVectors(vectors)
    for query in (vectors[0], normalized(generator.normal(size=(1, dim)))[0], -vectors[-1]):
        found = quantized.candidates(query, vectors, k, allowed)
        ((positions, scores),) = top_k(query[np.newaxis], vectors, k, order, allowed)
        if found is None:
            assert clusters * spread < 20  # only where hundreds are alike
            continue
        again, scores_again = rank_rows(query, vectors[found], found, k, order)
        assert again.tolist() == positions.tolist()
        assert scores_again.tolist() == scores.tolist()


def test_a_scan_leaves_few_of_many_rows():
    vectors = unit_vectors(30_000, dim=64)
    quantized = QuantizedVectors(vectors)
    left = [quantized.candidates(query, vectors, 10) for query in vectors[:20]]
    assert all(found is not None and len(found) < 1000 for found in left)


def test_a_thread_that_fails_fails_the_search():
    def fail(rows):
        if rows.start:
            raise MemoryError("no memory for a thread")

    with pytest.raises(MemoryError, match="for a thread"):
        run_parts(fail, [slice(0, 5), slice(5, 9)])


def test_many_equal_rows_are_left_to_the_scan_of_vectors():
    vectors = np.repeat(unit_vectors(2), 10_000, axis=0)
    assert QuantizedVectors(vectors).candidates(vectors[0], vectors, 5) is None


@pytest.fixture
def quantizing(monkeypatch):
    monkeypatch.setattr(snapshot_module, "_QUANTIZED_SIZE", 1)
    monkeypatch.setattr(snapshot_module, "_QUANTIZED_AFTER", 3)


def test_answers_are_the_same_before_and_after_quantizing(tmp_path, quantizing):
    table = Database(tmp_path / "db", create=True).create_table("corpus", INFO)
    vectors = unit_vectors(500)
    table.upsert(rows(np.concatenate([vectors, vectors[:100]])))
    index = Index(table, encoder=ToneEncoder())

    def answers():
        return [
            [(hit.id, hit.score) for hit in index.search_vectors(vectors[7:8], k=k, where=where, exact=True)[0]]
            for k in (1, 10)
            for where in (None, "language = 'en'")
        ]

    first = answers()
    assert answers() == answers() == first
    assert index._searchers[0].snapshot().quantized() is not None
    table.upsert(rows(vectors[7:8] * np.float32(1)))
    assert index.search_vectors(vectors[7:8], k=1, exact=True)[0][0].score == 1


def test_small_tables_are_not_quantized(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot_module, "_QUANTIZED_AFTER", 0)
    table = Database(tmp_path / "db", create=True).create_table("corpus", INFO)
    table.upsert(rows(unit_vectors(50)))
    index = Index(table, encoder=ToneEncoder())
    index.search_vectors(unit_vectors(1), k=1)
    assert index._searchers[0].snapshot().quantized() is None
