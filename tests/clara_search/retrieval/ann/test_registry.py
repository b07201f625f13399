"""The protocol of an ANN backend, proved by one of a few lines that knows nothing of FAISS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clara_search.errors import DatabaseError, FormatError, QueryError
from clara_search.retrieval.ann import index as ann
from clara_search.retrieval.ann.registry import BACKENDS, default_backend, load_backend
from clara_search.retrieval.index import Index
from tests.tables import rows, table_of, unit_vectors

QUERIES = unit_vectors(20, seed=99, clusters=20)


class HalvesBackend:
    """Compares a query with the first half of the rows, or at effort 2 with all."""

    efforts = (1, 2)

    def __init__(self, vectors):
        self.vectors = vectors
        self.params = {"rows_of_half": len(vectors) // 2}

    @classmethod
    def build(cls, vectors):
        return cls(vectors)

    def search(self, queries, k, effort, subset=None):
        scores = queries @ self.vectors.T
        if effort == 1:
            scores[:, self.params["rows_of_half"] :] = -np.inf
        if subset is not None:
            scores[:, ~subset] = -np.inf
        labels = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        best = np.take_along_axis(scores, labels, axis=1)
        return best, np.where(np.isfinite(best), labels, -1)

    def reconstruct(self, labels):
        return self.vectors[labels]

    def save(self, path: Path):
        path.write_bytes(self.vectors.tobytes())

    @classmethod
    def load(cls, path, dim, num_rows, params):
        content = path.read_bytes()
        if len(content) != 4 * dim * num_rows or params != {"rows_of_half": num_rows // 2}:
            raise FormatError(f"{path} is no index of halves")
        return cls(np.frombuffer(content, np.float32).reshape(num_rows, dim))


@pytest.fixture
def halves(monkeypatch):
    monkeypatch.setitem(BACKENDS, "halves", (f"{__name__}:HalvesBackend", "compares with one half or all"))


@pytest.fixture
def table(database):
    return table_of(database, unit_vectors(1000, clusters=20))


def ids_of(results):
    return [[hit.id for hit in hits] for hits in results]


@pytest.mark.slow
@pytest.mark.usefixtures("halves")
def test_a_backend_of_another_package_is_built_tuned_saved_and_searched(table):
    built = ann.build(table, "halves", target_recall=0.9)
    assert (built.meta.backend, built.meta.params, built.meta.effort("audio")) == ("halves", {"rows_of_half": 500}, 2)
    assert built.meta.tuning["audio"].recall == 1.0
    cheap = ann.build(table, "halves", target_recall=0.2)
    assert (cheap.meta.effort("audio"), 0.2 <= cheap.meta.tuning["audio"].recall < 0.9) == (1, True)
    index = Index(table)
    first_half = index.search_vectors(QUERIES, 10, exact=True, where="id < '000500'")
    assert ids_of(index.search_vectors(QUERIES, 10)) == ids_of(first_half)
    # More hits than the first half holds: the last effort finds them.
    assert ids_of(index.search_vectors(QUERIES, 700)) == ids_of(index.search_vectors(QUERIES, 700, exact=True))


@pytest.mark.usefixtures("halves")
def test_rows_changed_since_the_build_are_right_with_any_backend(table):
    ann.build(table, "halves", target_recall=1.0)
    table.upsert(rows(QUERIES, ids=[f"new{number:03d}" for number in range(20)]))
    table.delete_ids([f"{number:06d}" for number in range(300, 600)])
    index = Index(table)
    assert ids_of(index.search_vectors(QUERIES, 10)) == ids_of(index.search_vectors(QUERIES, 10, exact=True))
    status = ann.status(table)
    assert (status.num_indexed_rows, status.num_unindexed_rows, status.num_stale_rows) == (700, 20, 300)


@pytest.mark.usefixtures("halves")
def test_a_file_that_a_backend_refuses_is_an_error_with_a_remedy(table):
    ann.build(table, "halves")
    meta_path = table.connection.path / "_ann" / "corpus" / "meta.json"
    meta_path.write_text(meta_path.read_text().replace('"rows_of_half": 500', '"rows_of_half": 3'))
    with pytest.raises(DatabaseError, match=r"is no index of halves.*ann build"):
        ann.load(table)


def test_an_unknown_backend_is_named_with_those_there_are(table):
    with pytest.raises(QueryError, match="no ANN backend 'graph': choose from flat, ivf"):
        ann.build(table, "graph")


def test_the_default_backend_depends_on_the_number_of_rows():
    assert [default_backend(rows) for rows in (1, 19_999, 20_000, 10**9)] == ["flat", "flat", "ivf", "ivf"]


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_finds_every_row_at_its_last_effort(name):
    vectors = unit_vectors(500, clusters=20)
    backend = load_backend(name).build(vectors)
    assert list(backend.efforts) == sorted(set(backend.efforts))
    scores, labels = backend.search(QUERIES, 500, backend.efforts[-1])
    assert np.array_equal(np.sort(labels, axis=1), np.tile(np.arange(500), (20, 1)))
    np.testing.assert_allclose(scores, np.take_along_axis(QUERIES @ vectors.T, labels, axis=1), atol=1e-6)
    subset = np.arange(500) % 7 == 0
    _, labels = backend.search(QUERIES, 100, backend.efforts[-1], subset)
    assert set(np.unique(labels)) == {-1, *np.flatnonzero(subset).tolist()}


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_reads_what_it_saved_and_refuses_anything_else(tmp_path, name):
    vectors = unit_vectors(500, clusters=20)
    backend = load_backend(name)
    built = backend.build(vectors)
    built.save(tmp_path / "x.index")
    loaded = backend.load(tmp_path / "x.index", 16, 500, built.params)
    assert (loaded.params, loaded.efforts) == (built.params, built.efforts)
    for effort in built.efforts:
        for ours, theirs in zip(built.search(QUERIES, 5, effort), loaded.search(QUERIES, 5, effort), strict=True):
            assert np.array_equal(ours, theirs)
    for dim, num_rows, params in [(8, 500, built.params), (16, 499, built.params), (16, 500, {"more": 1})]:
        with pytest.raises(FormatError):
            backend.load(tmp_path / "x.index", dim, num_rows, params)
    (tmp_path / "short.index").write_bytes((tmp_path / "x.index").read_bytes()[:-4])
    with pytest.raises(FormatError):
        backend.load(tmp_path / "short.index", 16, 500, built.params)
