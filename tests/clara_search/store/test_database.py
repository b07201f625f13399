from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from clara_search.errors import DatabaseError, EncoderMismatch, QueryError
from clara_search.store.database import Database
from clara_search.store.schema import CORE_COLUMNS, TableInfo
from clara_search.store.table import Table, row_id
from tests.helpers import DIM, ToneEncoder

INFO = TableInfo.of(ToneEncoder(), window_s=10.0, hop_s=5.0)


def rows_of(ids: list[str], seed: int = 0, **columns: list[object]) -> pa.Table:
    vectors = np.random.default_rng(seed).standard_normal((len(ids), DIM)).astype(np.float32)
    return pa.table(
        {
            "id": ids,
            "kind": ["audio"] * len(ids),
            "uri": [f"/sounds/{name}.wav" for name in ids],
            "start_s": [0.0] * len(ids),
            "end_s": [10.0] * len(ids),
            "content_hash": ["0" * 64] * len(ids),
            "vector": pa.FixedSizeListArray.from_arrays(vectors.ravel(), DIM),
            **columns,
        }
    )


@pytest.fixture
def table(database: Database) -> Table:
    return database.create_table("corpus", INFO)


def test_a_table_remembers_what_built_it(table: Table, database: Database) -> None:
    reopened = Database(database.path).table("corpus")
    assert reopened.info == INFO
    assert tuple(reopened.schema.names) == CORE_COLUMNS
    assert not reopened.schema.field("id").nullable
    assert all(isinstance(value, bytes) for value in reopened.schema.metadata.values())


def test_upserting_twice_keeps_one_row_with_the_newest_vector(table: Table) -> None:
    table.upsert(rows_of(["a", "b"], seed=1))
    table.upsert(rows_of(["b", "c"], seed=2))
    assert table.count() == 3
    ids, vectors = table.ids_and_vectors()
    vector_of = {row["id"]: vector for row, vector in zip(table.rows(ids), vectors, strict=True)}
    expected = np.array(rows_of(["b", "c"], seed=2)["vector"].to_pylist(), np.float32)
    np.testing.assert_array_equal(vector_of["b"], expected[0])
    np.testing.assert_array_equal(vector_of["c"], expected[1])


def test_the_last_of_two_equal_ids_in_one_batch_counts(table: Table) -> None:
    table.upsert(rows_of(["a", "a"], text=["first", "last"]))
    assert table.scan(["id", "text"]).to_pylist() == [{"id": "a", "text": "last"}]


def test_rows_come_in_the_order_asked_for_and_without_the_vector(table: Table) -> None:
    table.upsert(rows_of(["a", "b", "c"]))
    ids, _ = table.ids_and_vectors()
    by_name = {row["id"]: row_id_ for row, row_id_ in zip(table.rows(ids), ids, strict=True)}
    rows = table.rows([by_name["c"], by_name["a"], by_name["c"]])
    assert [row["id"] for row in rows] == ["c", "a", "c"]
    assert "vector" not in rows[0]
    assert set(rows[0]) == set(CORE_COLUMNS) - {"vector"}
    assert table.rows([by_name["b"]], columns=["uri"]) == [{"uri": "/sounds/b.wav"}]


def test_row_ids_outlive_updates_deletions_and_compaction(table: Table) -> None:
    for name in "abcd":
        table.upsert(rows_of([name]))
    before = {table.rows([row])[0]["id"]: row for row in table.row_ids()}
    table.upsert(rows_of(["a"], seed=9))
    assert table.delete_ids(["b"]) == 1
    table.compact()
    after = {table.rows([row])[0]["id"]: row for row in table.row_ids()}
    assert after == {name: before[name] for name in "acd"}
    with pytest.raises(DatabaseError, match="deleted"):
        table.rows([before["b"]])


def test_a_filter_selects_the_same_rows_everywhere(table: Table) -> None:
    table.upsert(rows_of(["a", "b", "c"], language=["en", "de", None]))
    where = "language = 'de'"
    assert table.count(where) == 1
    (only,) = table.row_ids(where)
    ids, vectors = table.ids_and_vectors(where)
    assert list(ids) == [only]
    assert vectors.shape == (1, DIM)
    assert vectors.dtype == np.float32
    assert table.scan(["id"], where).to_pylist() == [{"id": "b"}]


def test_a_filter_that_nothing_passes_gives_empty_arrays(table: Table) -> None:
    ids, vectors = table.ids_and_vectors("language = 'xx'")
    assert ids.shape == (0,)
    assert vectors.shape == (0, DIM)
    assert table.rows([]) == []


@pytest.mark.parametrize("where", ["speaker = 'x'", "uri = = 'x'", "start_s > 'many'", "CAST(uri AS INT) > 3"])
def test_a_bad_filter_says_why_on_one_line(table: Table, where: str) -> None:
    table.upsert(rows_of(["a"]))
    for read in (table.count, table.row_ids, table.ids_and_vectors):
        with pytest.raises(QueryError, match="cannot be used") as caught:
            read(where)
        assert "\n" not in str(caught.value)
        assert ".rs:" not in str(caught.value)


def test_new_columns_are_added_and_null_in_older_rows(table: Table) -> None:
    table.upsert(rows_of(["a"]))
    table.upsert(rows_of(["b"], speaker=["Bea"], take=pa.array([3], pa.int64())))
    table.upsert(rows_of(["c"], empty=pa.nulls(1)))
    assert sorted(table.scan(["id", "speaker", "take"]).to_pylist(), key=lambda row: row["id"]) == [
        {"id": "a", "speaker": None, "take": None},
        {"id": "b", "speaker": "Bea", "take": 3},
        {"id": "c", "speaker": None, "take": None},
    ]
    assert table.info == INFO


def test_a_value_that_does_not_fit_its_column_names_the_column(table: Table) -> None:
    table.upsert(rows_of(["a"], take=pa.array([3], pa.int64())))
    with pytest.raises(DatabaseError, match="column 'take' takes int64"):
        table.upsert(rows_of(["b"], take=["third"]))


def test_a_reader_sees_what_another_handle_wrote(table: Table, database: Database) -> None:
    reader = Database(database.path).table()
    version = reader.version
    table.upsert(rows_of(["a"]))
    assert reader.version > version
    assert reader.count() == 1
    assert len(reader.row_ids()) == 1


def upsert_in_a_process(path: Path, seed: int, barrier: object) -> None:
    table = Database(path).table()
    barrier.wait()  # type: ignore[attr-defined]
    for start in range(0, 200, 50):
        table.upsert(rows_of([f"row {number}" for number in range(start, start + 50)], seed))


@pytest.mark.slow
def test_processes_that_upsert_the_same_rows_do_not_double_them(table: Table, database: Database) -> None:
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(2)
    workers = [spawn.Process(target=upsert_in_a_process, args=(database.path, seed, barrier)) for seed in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert table.count() == 200
    assert len(set(table.scan(["id"])["id"].to_pylist())) == 200


def test_deleting_says_how_many_rows_there_were(table: Table) -> None:
    table.upsert(rows_of(["a", "b", "it's"]))
    assert table.delete_ids(["a", "it's", "unknown"]) == 2
    assert table.delete_ids([]) == 0
    assert table.count() == 1


def test_another_encoder_is_refused_by_name(table: Table) -> None:
    table.check_encoder(ToneEncoder())
    with pytest.raises(
        EncoderMismatch, match=r"table 'corpus' was built by tone \(\w{8}\.\.\.\); you opened it with tone"
    ):
        table.check_encoder(ToneEncoder(version="2"))


def test_a_missing_database_is_named_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="nowhere"):
        Database(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_missing_table_lists_those_there_are(database: Database) -> None:
    with pytest.raises(DatabaseError, match="no table 'corpus'; it has no tables"):
        database.table()
    for number in range(12):
        database.create_table(f"t{number:02}", INFO)
    assert database.table_names() == [f"t{number:02}" for number in range(12)]
    with pytest.raises(DatabaseError, match="it has t00, t01"):
        database.table("corpus")


def test_a_table_is_not_created_over_another(table: Table, database: Database) -> None:
    with pytest.raises(DatabaseError, match="exists already"):
        database.create_table(table.name, INFO)
    for name in ("_hidden", "a/b", "", "../up"):
        with pytest.raises(DatabaseError, match="cannot name a table"):
            database.create_table(name, INFO)


def test_a_table_of_another_make_or_a_later_format_is_refused(table: Table, database: Database) -> None:
    database.lance.create_table("foreign", schema=pa.schema([pa.field("x", pa.int64())]))
    with pytest.raises(DatabaseError, match="not made by clara-search"):
        database.table("foreign")
    newer = table.schema.with_metadata({**table.schema.metadata, b"clara.format_version": b"99"})
    database.lance.create_table("later", schema=newer)
    with pytest.raises(DatabaseError, match="format 99"):
        database.table("later")
    for name, value in (("format_version", "0"), ("dim", "many"), ("relative_to", "a\0b")):
        broken = table.schema.with_metadata({**table.schema.metadata, f"clara.{name}": value})
        database.lance.create_table(f"broken_{name}", schema=broken)
        with pytest.raises(DatabaseError, match=r"was not made by clara-search.* metadata (are broken|say format)"):
            database.table(f"broken_{name}")


def test_a_row_keeps_its_id_for_ever() -> None:
    assert row_id("/sounds/a.wav", 0.0, 10.0) == "5c3d4532d1bbd084643baf09d7cbc3a9"
    assert len({row_id("a", None, None), row_id("a", 0.0, 1.0), row_id("a", 1.0, 2.0), row_id("b", 0.0, 1.0)}) == 4


def test_importing_the_store_does_not_import_lancedb() -> None:
    heavy = "{'lancedb', 'pyarrow', 'torch', 'pandas'}"
    code = f"import sys, clara_search.store.database; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
