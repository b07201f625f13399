"""ANN indices that somebody made to hurt: their checksums fit, and still FAISS never opens them."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pytest

from clara_search.errors import DatabaseError
from clara_search.retrieval.ann import index as ann
from clara_search.retrieval.ann.faiss_files import write_index
from clara_search.retrieval.ann.flat import FlatBackend
from clara_search.retrieval.ann.ivf import IvfBackend
from clara_search.retrieval.index import Index
from clara_search.store.database import Database
from clara_search.store.table import Table
from tests.helpers import DIM
from tests.tables import table_of, unit_vectors

ROWS = 400
VECTORS = unit_vectors(ROWS, clusters=20)
TUNING = {"effort": 1, "recall": 1.0, "interval": [1.0, 1.0], "queries": 9, "source": "rows of recordings", "curve": []}


@pytest.fixture
def table(database: Database) -> Table:
    return table_of(database, VECTORS)


def folder(table: Table) -> Path:
    return table.connection.path / "_ann" / "corpus"


def forge(table: Table, suffix: str, change: Callable[[Path], object], **meta: Any) -> None:
    """Change a file of the index and its checksum alike."""
    path = next(folder(table).glob(f"*{suffix}"))
    change(path)
    values = json.loads((folder(table) / "meta.json").read_text())
    values["checksums"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder(table) / "meta.json").write_text(json.dumps({**values, **meta}))


def assert_refused(table: Table, why: str) -> None:
    for use in (lambda: Index(table).search_vectors(VECTORS[:1]), lambda: ann.status(table)):
        with pytest.raises(DatabaseError, match=rf"^[^\n]*{why}[^\n]*ann build.*ann drop`$"):
            use()
    assert Index(table).search_vectors(VECTORS[:1], exact=True)
    ann.build(table, "ivf")
    assert Index(table).search_vectors(VECTORS[:1])


def flat_index(vectors: np.ndarray) -> Any:
    return FlatBackend.build(vectors).index


def ivf_index(vectors: np.ndarray) -> Any:
    return IvfBackend.build(vectors).index


def written(index: Any) -> Callable[[Path], object]:
    return lambda path: write_index(index, path)


def trained(index: Any, vectors: np.ndarray = VECTORS) -> Any:
    index.train(vectors)
    index.add(vectors)
    return index


def with_ids(ids: list[int]) -> Any:
    index = ivf_index(VECTORS)
    index.reset()
    index.add_with_ids(VECTORS, np.array(ids, np.int64))
    return index


def mapped(ids: np.ndarray) -> Any:
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(DIM))
    index.add_with_ids(VECTORS, ids)
    return index


def of_lists(make: Callable[..., Any]) -> Any:
    own = ivf_index(VECTORS)
    return trained(make(faiss.IndexFlatIP(DIM), DIM, own.nlist))


OTHER_KINDS: dict[str, Callable[[], Any]] = {
    "L2": lambda: trained(faiss.IndexFlatL2(DIM)),
    "graph": lambda: trained(faiss.IndexHNSWFlat(DIM, 8, faiss.METRIC_INNER_PRODUCT)),
    "own ids": lambda: mapped(np.arange(7, 7 + ROWS)),
    "transformed": lambda: trained(faiss.index_factory(DIM, "PCA16,Flat", faiss.METRIC_INNER_PRODUCT)),
    "codes": lambda: trained(faiss.index_factory(DIM, "SQ8", faiss.METRIC_INNER_PRODUCT)),
    "shorter vectors": lambda: flat_index(np.ascontiguousarray(VECTORS[:, :8])),
    "longer vectors": lambda: flat_index(np.tile(VECTORS, 2)),
    "fewer vectors": lambda: flat_index(VECTORS[:-1]),
    "more vectors": lambda: flat_index(np.tile(VECTORS, (2, 1))),
    "lists": lambda: ivf_index(VECTORS),
    "none": lambda: faiss.IndexFlatIP(DIM),
}
OTHER_LISTS: dict[str, Callable[[], Any]] = {
    "flat": lambda: flat_index(VECTORS),
    "L2": lambda: of_lists(lambda *shape: faiss.IndexIVFFlat(*shape, faiss.METRIC_L2)),
    "codes": lambda: of_lists(lambda *shape: faiss.IndexIVFPQ(*shape, 4, 4, faiss.METRIC_INNER_PRODUCT)),
    "quantiser": lambda: trained(
        faiss.IndexIVFFlat(faiss.IndexFlatL2(DIM), DIM, ivf_index(VECTORS).nlist, faiss.METRIC_INNER_PRODUCT)
    ),
    "other lists": lambda: trained(faiss.IndexIVFFlat(faiss.IndexFlatIP(DIM), DIM, 3, faiss.METRIC_INNER_PRODUCT)),
    "foreign ids": lambda: with_ids([10**12, *range(1, ROWS)]),
    "an id past the end": lambda: with_ids([*range(1, ROWS + 1)]),
    "negative ids": lambda: with_ids([-5, *range(1, ROWS)]),
    "an id twice": lambda: with_ids([1, *range(1, ROWS)]),
    "fewer vectors": lambda: ivf_index(VECTORS[:-1]),
}


@pytest.mark.parametrize("make", OTHER_KINDS.values(), ids=OTHER_KINDS)
def test_a_flat_index_of_another_kind_is_refused(table: Table, make: Callable[[], Any]) -> None:
    ann.build(table, "flat")
    forge(table, ".index", written(make()))
    assert_refused(table, "is no index of 400 vectors of 16 numbers: ")


@pytest.mark.parametrize("make", OTHER_LISTS.values(), ids=OTHER_LISTS)
def test_an_index_of_lists_of_another_kind_is_refused(table: Table, make: Callable[[], Any]) -> None:
    ann.build(table, "ivf")
    forge(table, ".index", written(make()))
    assert_refused(table, "is no index of 400 vectors of 16 numbers: ")


def test_lists_in_another_file_are_refused(table: Table, tmp_path: Path) -> None:
    """FAISS maps the file that the index names, and dies of SIGBUS where that is shorter than it says."""
    ann.build(table, "ivf")
    index = ivf_index(VECTORS)
    lists = faiss.OnDiskInvertedLists(index.nlist, index.code_size, str(tmp_path / "lists"))
    index.reset()
    index.replace_invlists(lists)
    index.add(VECTORS)
    forge(table, ".index", lambda path: (write_index(index, path), path.open("ab").write(bytes(4 * DIM * ROWS))))
    (tmp_path / "lists").write_bytes(b"")
    assert_refused(table, "its kind of lists is")


@pytest.mark.parametrize("backend", ["flat", "ivf"])
@pytest.mark.parametrize("change", [lambda content: content[:-8], lambda content: content + bytes(8), lambda _: b""])
def test_an_index_that_is_longer_or_cut_short_is_refused(
    table: Table, backend: str, change: Callable[[bytes], bytes]
) -> None:
    ann.build(table, backend)
    forge(table, ".index", lambda path: path.write_bytes(change(path.read_bytes())))
    assert_refused(table, "(cut short|there is more in it|another number of vectors)")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["flat", "ivf"])
def test_no_field_of_an_index_can_be_changed(table: Table, backend: str) -> None:
    """Each of the first bytes, and those around the sizes of lists, set to 255: read, or refused; no crash."""
    ann.build(table, backend)
    path = next(folder(table).glob("*.index"))
    sound = path.read_bytes()
    vectors = len(sound) - ROWS * (4 * DIM + 8 * (backend == "ivf"))
    lists = json.loads((folder(table) / "meta.json").read_text())["params"].get("nlist", 0)
    skipped = range(98, 98 + 4 * DIM * lists)
    refused = 0
    for offset in (offset for offset in range(vectors) if offset not in skipped):
        content = bytearray(sound)
        content[offset] ^= 0xFF
        forge(table, ".index", lambda path, content=content: path.write_bytes(content))
        try:
            assert len(Index(table).search_vectors(VECTORS[:1], k=ROWS)[0]) == ROWS
        except DatabaseError:
            refused += 1
    unused = 16 + (8 + 16 if backend == "ivf" else 0)  # FAISS writes two integers for nothing, and nprobe, which we set
    assert refused == len([offset for offset in range(vectors) if offset not in skipped]) - unused


def arrow(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        with pa.ipc.open_file(path) as reader:
            rows = change(reader.read_all())
        with pa.ipc.new_file(path, rows.schema) as writer:
            writer.write_table(rows)

    return write


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows.slice(1),
        lambda rows: rows.drop_columns(["id"]),
        lambda rows: rows.rename_columns(["_rowid", "_row_last_updated_at_version", "uri", "content_hash"]),
        lambda rows: rows.set_column(0, "_rowid", pa.array(["1"] * ROWS)),
        lambda rows: rows.set_column(0, "_rowid", pa.array([None] * ROWS, pa.uint64())),
        lambda rows: rows.set_column(3, "content_hash", pa.array([[1]] * ROWS)),
    ],
)
def test_rows_of_another_kind_are_refused(table: Table, change: Callable[[pa.Table], pa.Table]) -> None:
    ann.build(table, "ivf")
    forge(table, ".arrow", arrow(change))
    assert_refused(table, r"\.arrow (does not hold the 400 rows of an index|cannot be read)")


def test_texts_that_end_outside_their_file_are_refused(table: Table) -> None:
    """Pyarrow itself reads whatever lies in memory there."""
    ann.build(table, "ivf")
    sound, forged = struct.pack("<2i", 6 * (ROWS - 1), 6 * ROWS), struct.pack("<2i", 6 * (ROWS - 1), 1 << 30)
    assert next(folder(table).glob("*.arrow")).read_bytes().count(sound) == 1
    forge(table, ".arrow", lambda path: path.write_bytes(path.read_bytes().replace(sound, forged)))
    assert_refused(table, r"\.arrow cannot be read")


def test_a_file_that_is_no_arrow_is_refused(table: Table) -> None:
    ann.build(table, "ivf")
    forge(table, ".arrow", lambda path: path.write_bytes(b"ARROW1\0\0" + b"\xff" * 64))
    assert_refused(table, r"\.arrow cannot be read")


@pytest.mark.parametrize(
    "values",
    [
        {"tuning": {}},
        {"tuning": {"smell": TUNING}},
        {"tuning": {"audio": {**TUNING, "effort": True}}},
        {"tuning": {"audio": {**TUNING, "effort": 1.0}}},
        {"tuning": {"audio": {**TUNING, "recall": float("nan")}}},
        {"tuning": {"audio": {**TUNING, "interval": [0.5, 2.0]}}},
        {"tuning": {"audio": {**TUNING, "curve": [{"effort": 1, "recall": -1.0, "latency_ms": 1.0}]}}},
        {"k": 0},
        {"params": {"nlist": "8"}},
        {"params": {"nlist": True}},
        {"params": [8]},
        {"num_rows": -1},
        {"num_rows": 10**40},
        {"num_rows": 1.5},
        {"target_recall": float("nan")},
        {"backend": "hnsw"},
        {"checksums": {}},
        {"checksums": ["a", "b"]},
        {"checksums": {"/etc/passwd": "", "../x.arrow": ""}},
        {"more": 1},
    ],
)
def test_a_description_that_no_index_writes_is_refused(table: Table, values: dict[str, Any]) -> None:
    ann.build(table, "ivf")
    forge(table, ".index", lambda _: None, **values)
    assert_refused(table, r"has a broken meta\.json")


@pytest.mark.parametrize("effort", [0, -1, ROWS, 10**9])
def test_an_effort_that_the_backend_does_not_have_is_refused(table: Table, effort: int) -> None:
    ann.build(table, "ivf")
    forge(table, ".index", lambda _: None, tuning={"audio": {**TUNING, "effort": effort}})
    assert_refused(table, f"has effort {effort}, which backend 'ivf' has not")


@pytest.mark.parametrize("backend", ["flat", "ivf"])
@pytest.mark.parametrize("params", [{"nlist": 0}, {"nlist": ROWS + 1}, {"nlist": 10**18}, {"nlist": 9}, {"nprobe": 1}])
def test_parameters_that_the_backend_does_not_build_with_are_refused(
    table: Table, backend: str, params: dict[str, int]
) -> None:
    ann.build(table, backend)
    forge(table, ".index", lambda _: None, params=params)
    assert_refused(table, "cannot be used, .*(no parameters|lists|header)")


def test_a_description_without_end_is_refused(table: Table) -> None:
    ann.build(table, "ivf")
    (folder(table) / "meta.json").write_text("[" * 50_000)
    assert_refused(table, r"has a broken meta\.json")
    with (folder(table) / "meta.json").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(DatabaseError, match="at most 65,536 are expected"):
        ann.status(table)
