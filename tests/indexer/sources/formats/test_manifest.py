"""Manifests in a table: types, names, captions, bad lines, tables in memory; the same by every way in."""

from __future__ import annotations

import datetime
import json
import unicodedata
from decimal import Decimal
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from pyarrow import parquet

from clara_search.commands.main import main
from clara_search.errors import ConfigError
from clara_search.files.network import access
from clara_search.store.database import Database
from indexer.ledger.failures import failures
from indexer.pipeline import index
from tests.helpers import ToneEncoder, write_tone


def table_of(*sources: Any, database: Database, **options: Any) -> Any:
    index(list(sources), database, ToneEncoder(), **options)
    return database.table(options.get("table", "corpus"))


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        write_tone(tmp_path / f"{name}.wav", 300)
    return tmp_path


DAY, RECORDED = datetime.date(2024, 1, 5), datetime.datetime(2024, 1, 5, 10, 30)
TYPED = pa.table(
    {
        "path": pa.array(["a.wav", "b.wav"], pa.large_string()),
        "day": [DAY, datetime.date(2023, 6, 1)],
        "recorded": pa.array([RECORDED, datetime.datetime(2023, 6, 1)], pa.timestamp("ns")),
        "tags": [["x", "y"], []],
        "flag": [True, None],
        "big": [2**53 + 1, 2**53 + 3],
        "gain": [0.5, float("nan")],
        "spk": pa.array(["ann", "bob"]).dictionary_encode(),
    }
)
QUERIES = ["day >= '2024-01-01'", "recorded > '2024-01-05 09:00:00'", "flag", "gain < 1", f"big = {2**53 + 1}"]


def write_typed(folder: Path, way: str) -> Any:
    path = folder / f"m.{way}"
    if way == "parquet":
        parquet.write_table(TYPED, path)
    elif way == "arrow":
        with pa.ipc.new_file(path, TYPED.schema) as writer:
            writer.write_table(TYPED)
    elif way == "jsonl":
        path.write_text("".join(json.dumps(row, default=str) + "\n" for row in TYPED.to_pylist()))
    elif way == "csv":
        path.write_text(
            "path,day,recorded,flag,big,gain,spk\n"
            f"a.wav,2024-01-05,2024-01-05T10:30:00,true,{2**53 + 1},0.5,ann\n"
            f"b.wav,2023-06-01,2023-06-01 00:00:00,,{2**53 + 3},NaN,bob\n"
        )
    elif way == "pandas":
        return TYPED.to_pandas()
    elif way == "table":
        return TYPED
    elif way == "reader":
        return TYPED.to_reader()
    return path


@pytest.mark.parametrize("way", ["parquet", "arrow", "jsonl", "csv", "pandas", "table", "reader"])
def test_columns_have_the_same_types_by_every_way_in(
    way: str, sounds: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sounds)
    table = table_of(write_typed(sounds, way), database=database)
    types = {name: table.schema.field(name).type for name in TYPED.schema.names[1:] if name in table.schema.names}
    expected = {
        "day": pa.date32(),
        "recorded": pa.timestamp("us"),
        "tags": pa.list_(pa.string()),
        "flag": pa.bool_(),
        "big": pa.int64(),
        "gain": pa.float64(),
        "spk": pa.string(),
    }
    assert types == {name: kind for name, kind in expected.items() if way != "csv" or name != "tags"}
    queries = QUERIES if way == "csv" else [*QUERIES, "array_has(tags, 'x')"]
    for query in queries:
        (row,) = table.scan(["uri", "day", "recorded"], query).to_pylist()
        assert row == {"uri": str(sounds / "a.wav"), "day": DAY, "recorded": RECORDED}, query
    assert (table.count("gain IS NULL"), table.count("kind = 'audio'")) == (1, 2)


def test_other_native_types_are_kept_and_bytes_left_out(
    sounds: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    rows = pa.table(
        {
            "path": ["a.wav"],
            "price": [Decimal("12.50")],
            "dur": [datetime.timedelta(seconds=61)],
            "at": [datetime.time(10, 30)],
            "u64": pa.array([2**63 + 5], pa.uint64()),
            "zoned": pa.array([RECORDED], pa.timestamp("ms", "UTC")),
            "half": pa.array(np.array([0.5], np.float16)),
            "nested": [{"a": [1]}],
            "nothing": pa.nulls(1),
            "blob": [b"\0\1"],
        }
    )
    parquet.write_table(rows, sounds / "m.parquet")
    table = table_of(sounds / "m.parquet", database=database)
    (row,) = table.scan(["price", "dur", "at", "u64", "zoned", "half", "nested"]).to_pylist()
    assert row == {
        "price": Decimal("12.50"),
        "dur": datetime.timedelta(seconds=61),
        "at": datetime.time(10, 30),
        "u64": 2**63 + 5,
        "zoned": RECORDED.replace(tzinfo=datetime.UTC),
        "half": 0.5,
        "nested": '{"a": [1]}',
    }
    assert not {"blob", "nothing"} & set(table.schema.names)
    queries = [
        "price > 12.4 AND price = 12.5",
        "price IN (3, 12.5)",
        "dur > 60",
        "at < '11:00'",
        "zoned >= '2024-01-05'",
    ]
    for query in queries:
        assert (table.count(query), table.count(f"NOT ({query})")) == (1, 0), query
    assert "the column 'blob' holds bytes that are no audio, and is left out" in caplog.text


def test_texts_stay_texts_unless_the_user_says_otherwise(
    sounds: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = sounds / "m.csv"
    manifest.write_text("path,take,version,code,big\na.wav,1e3,1.10,0012,9007199254740993\nb.wav,5e2,1.20,0013,0.5\n")
    row = table_of(manifest, database=database).scan(["take", "version", "code", "big"], "take = '1e3'").to_pylist()
    assert row == [{"take": "1e3", "version": "1.10", "code": "0012", "big": "9007199254740993"}]
    assert "the column 'version' is kept as text: numbers would not keep '1.20' as it is" in caplog.text
    types = {"take": "float", "version": "decimal(4,2)", "code": "int"}
    table = table_of(manifest, database=database, table="typed", column_types=types)
    assert table.scan(["take", "version", "code"], "code = 12").to_pylist() == [
        {"take": 1000.0, "version": Decimal("1.10"), "code": 12}
    ]
    with pytest.raises(ConfigError, match="no type of a column is called 'number7'"):
        index(manifest, database, ToneEncoder(), column_types={"take": "number7"})


def test_a_value_that_is_not_of_the_type_the_user_gave_costs_its_row(sounds: Path, database: Database) -> None:
    (sounds / "m.csv").write_text("path,year\na.wav,1999\nb.wav,unknown\nc.wav,NA\n")
    table = table_of(sounds / "m.csv", database=database, column_types={"year": "int"})
    assert sorted(table.scan(["year"])["year"].to_pylist(), key=str) == [1999, None]
    (failure,) = failures(database)
    assert "column 'year' is to be int64" in failure["reason"]


def test_columns_widen_when_a_later_source_needs_it(
    sounds: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    years = []
    for name, year in (("a", "1999"), ("b", "1999.5"), ("c", "unknown")):
        (sounds / f"{name}.csv").write_text(f"path,year\n{name}.wav,{year}\n")
        table = table_of(sounds / f"{name}.csv", database=database)
        years.append((table.schema.field("year").type, sorted(map(str, table.scan(["year"])["year"].to_pylist()))))
    assert years == [
        (pa.int64(), ["1999"]),
        (pa.float64(), ["1999.0", "1999.5"]),
        (pa.string(), ["1999.0", "1999.5", "unknown"]),
    ]
    assert "column 'year' of table 'corpus' becomes double: int64 is too narrow" in caplog.text
    assert index([sounds / "a.csv", sounds / "b.csv"], database, ToneEncoder()).unchanged == 2
    assert not [name for name in table.schema.names if name.startswith("clara_")]


def test_long_numbers_become_texts_and_lose_no_digits(sounds: Path, database: Database) -> None:
    (sounds / "m.csv").write_text(f"path,n\na.wav,{2**53 + 1}\n")
    (sounds / "n.csv").write_text("path,n\nb.wav,0.5\n")
    table_of(sounds / "m.csv", database=database)
    table = table_of(sounds / "n.csv", database=database)
    assert sorted(table.scan(["n"])["n"].to_pylist()) == ["0.5", str(2**53 + 1)]


RESERVED = ("id", "kind", "score", "uri", "vector", "_note", "a.b")


@pytest.mark.parametrize("way", ["csv", "jsonl", "parquet", "table"])
def test_names_that_a_table_uses_itself_are_kept_under_another(
    way: str, sounds: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    row = {"path": str(sounds / "a.wav"), **{name: f"own {name}" for name in RESERVED}}
    source: Any = sounds / f"m.{way}"
    if way == "csv":
        source.write_text(",".join(row) + "\n" + ",".join(row.values()) + "\n")
    elif way == "jsonl":
        source.write_text(json.dumps(row) + "\n")
    elif way == "parquet":
        parquet.write_table(pa.Table.from_pylist([row]), source)
    else:
        source = pa.Table.from_pylist([row])
    table = table_of(source, database=database)
    kept = ["source_id", "source_kind", "source_score", "source_uri", "source_vector", "source_note", "a_b"]
    assert list(table.scan(kept).to_pylist()[0].values()) == [f"own {name}" for name in RESERVED]
    assert table.count("kind = 'audio'") == 1
    assert "the column 'id' is kept as 'source_id'" in caplog.text


def test_a_bad_line_is_listed_and_the_run_goes_on(sounds: Path) -> None:
    (sounds / "m.csv").write_bytes(b"path,text\na.wav,one\nb.wav,two,three\nc.wav,caf\xe9\n")
    database = Database(sounds / "db", create=True)
    summary = index(sounds / "m.csv", database, ToneEncoder())
    assert (summary.indexed, summary.failed, summary.rows) == (1, 2, 1)
    reasons = {failure["uri"].rpartition("#")[2]: failure["reason"] for failure in failures(database)}
    assert reasons["L3"] == "3 cells, but 2 columns"
    assert reasons["L4"].startswith("not UTF-8")
    (sounds / "m.csv").write_text("path,text\na.wav,one\nb.wav,two\n")
    assert index(sounds / "m.csv", database, ToneEncoder()).failed == 0
    assert failures(database) == []


def test_the_command_names_columns_as_the_library_does(sounds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clara_search.models.registry.load_encoder", lambda *_, **__: ToneEncoder())
    (sounds / "m.csv").write_bytes("take;phrase;jahr;größe\na.wav;hallo;007;5\n".encode("cp1252"))
    options = ["--path-column", "take", "--text-column", "phrase", "--column", "year=jahr", "--encoding", "cp1252"]
    arguments = ["index", str(sounds / "m.csv"), "--db", str(sounds / "db"), *options]
    result = CliRunner().invoke(main, [*arguments, "--column-type", "year=int"])
    assert result.exit_code == 0, result.output
    (row,) = Database(sounds / "db").table().scan(["uri", "text", "year", "größe"]).to_pylist()
    assert row == {"uri": str(sounds / "a.wav"), "text": "hallo", "year": 7, "größe": 5}
    assert "expected NAME=TYPE" in CliRunner().invoke(main, [*arguments, "--column-type", "year"]).output
    (sounds / "two.csv").write_text("file_name,audio_path\na.wav,b.wav\n")
    result = CliRunner().invoke(main, ["index", str(sounds / "two.csv"), "--db", str(sounds / "db")])
    assert "choose one with --path-column" in result.stderr


def test_names_are_found_however_they_are_spelt(
    sounds: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(sounds))
    decomposed = unicodedata.normalize("NFD", "café.wav")
    write_tone(sounds / "in" / decomposed, 300)
    composed = unicodedata.normalize("NFC", "café.wav")
    (sounds / "m.csv").write_text(f"path\n~/a.wav\nin/{composed}\nin\\{composed}\n", encoding="utf-8")
    table = table_of(sounds / "m.csv", database=database)
    assert sorted(table.scan(["uri"])["uri"].to_pylist()) == [str(sounds / "a.wav"), str(sounds / "in" / decomposed)]
    assert failures(database) == []


def test_a_file_that_a_server_does_not_have_is_said_to_be_missing(tmp_path: Path, database: Database) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=tmp_path))
    Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "m.csv").write_text(f"path\nhttp://127.0.0.1:{server.server_port}/nowhere.wav\n")
    before = access.state()
    access.trust(f"http://127.0.0.1:{server.server_port}")
    try:
        assert index(tmp_path / "m.csv", database, ToneEncoder()).failed == 1
    finally:
        access.restore(before)
        server.shutdown()
    (failure,) = failures(database)
    assert failure["reason"] == "its server says that there is no such file"
