"""`db verify` finds and repairs tables that were damaged on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from clara_search.commands.db import verify_all as verify
from clara_search.commands.main import main
from clara_search.errors import DatabaseError
from clara_search.retrieval.ann import index as ann
from clara_search.store import verify as verify_module
from clara_search.store.database import Database
from clara_search.store.keyed_table import KeyedTable
from clara_search.store.verify import Finding
from indexer.ledger.failures import ledger_name
from indexer.pipeline import index
from tests.helpers import ToneEncoder, write_tone
from tests.tables import table_of, unit_vectors


@pytest.fixture
def indexed(recordings: Path, database: Database, encoder: ToneEncoder) -> Database:
    index([recordings], database, encoder)
    write_tone(recordings / "more.wav", 700)
    index([recordings], database, encoder)
    return database


def findings_of(database: Database, repair: bool = False) -> dict[str, Finding]:
    return {finding.check: finding for finding in verify(database, "corpus", repair, encoder=ToneEncoder())}


def heads(database: Database, table: str = "corpus") -> list[Path]:
    return sorted((database.table_folder(table) / "_versions").glob("*.manifest"))


def test_a_sound_table_passes_every_check(indexed: Database) -> None:
    ann.build(indexed.table())
    findings = findings_of(indexed)
    assert list(findings) == ["files", "vectors", "ids", "hashes", "encoder", "sample", "ledger", "ann", "words"]
    assert all(finding.ok and not finding.repaired for finding in findings.values())
    assert "4 of 4 rows embedded again" in findings["sample"].detail


@pytest.mark.parametrize("table", ["corpus", ledger_name("corpus")])
def test_an_empty_head_manifest_is_rolled_back(indexed: Database, recordings: Path, table: str) -> None:
    """A power cut leaves such a file: the version before is readable, and the next run indexes the rest again."""
    heads(indexed, table)[0].write_bytes(b"")
    again = Database(indexed.path)
    if table == "corpus":
        with pytest.raises(DatabaseError, match=r"cannot be opened .*db verify --repair"):
            again.table()
    check = "files" if table == "corpus" else "ledger"
    assert not findings_of(again)[check].ok
    assert findings_of(again, repair=True)[check].repaired
    assert all(finding.ok for finding in findings_of(Database(indexed.path)).values())
    summary = index([recordings], Database(indexed.path), ToneEncoder())
    assert (summary.indexed + summary.unchanged, summary.rows) == (4, 4)
    assert summary.indexed == 1


def test_a_damaged_data_file_of_the_last_version_is_rolled_back(indexed: Database, recordings: Path) -> None:
    newest = max((indexed.table_folder("corpus") / "data").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(b"")
    assert not findings_of(Database(indexed.path))["files"].ok
    assert findings_of(Database(indexed.path), repair=True)["files"].repaired
    assert index([recordings], Database(indexed.path), ToneEncoder()).rows == 4


def test_a_table_that_cannot_be_mended_is_left_as_it_is(indexed: Database) -> None:
    for path in (indexed.table_folder("corpus") / "data").iterdir():
        path.write_bytes(b"")
    for path in heads(indexed)[:-1]:
        path.write_bytes(b"")
    heads(indexed)[-1].write_bytes(b"")
    before = heads(indexed)
    assert not findings_of(Database(indexed.path), repair=True)["files"].ok
    assert heads(indexed) == before


def test_bad_rows_are_found_deleted_and_written_again(indexed: Database, recordings: Path) -> None:
    table = indexed.table()
    rows = table.scan(table.schema.names).to_pylist()
    rows[0]["vector"] = [0.0] * 16
    rows[1]["vector"] = [0.5] * 16
    rows[2]["content_hash"] = ""
    vector = np.roll(np.array(rows[3]["vector"], np.float32), 8)
    rows[3]["vector"] = (vector / np.linalg.norm(vector)).tolist()
    import pyarrow as pa

    table.upsert(pa.Table.from_pylist(rows, schema=table.schema))
    findings = findings_of(indexed)
    assert [finding.check for finding in findings.values() if not finding.ok] == ["vectors", "hashes", "sample"]
    assert "2 rows are not finite" in findings["vectors"].detail
    repaired = findings_of(indexed, repair=True)
    assert all(finding.ok for finding in repaired.values())
    assert indexed.table().count() < 4
    assert index([recordings], indexed, ToneEncoder()).rows == 4
    assert all(finding.ok and not finding.repaired for finding in findings_of(indexed).values())


def test_an_id_that_is_there_twice_is_kept_once(indexed: Database) -> None:
    table = indexed.table()
    rows = table.scan(table.schema.names)
    table._lance.add(rows.slice(0, 2))  # as a writer does that knows nothing of the key
    assert "2 ids have several rows" in findings_of(indexed)["ids"].detail
    assert findings_of(indexed, repair=True)["ids"].repaired
    assert indexed.table().count() == 4


def test_an_index_of_a_table_that_grew_is_sound_and_built_anew_by_a_repair(indexed: Database, recordings: Path) -> None:
    ann.build(indexed.table())
    for number in range(3):
        write_tone(recordings / f"late{number}.wav", 900 + number)
    index([recordings], indexed, ToneEncoder())
    finding = findings_of(indexed)["ann"]
    assert (finding.ok, finding.detail) == (True, "covers 4 rows; 3 rows not yet indexed")
    assert findings_of(indexed, repair=True)["ann"].repaired
    assert findings_of(indexed)["ann"].detail == "covers 7 rows"


def test_a_changed_or_missing_source_is_no_damage(indexed: Database, recordings: Path) -> None:
    write_tone(recordings / "low.wav", 3000)
    (recordings / "more.wav").unlink()
    sample = findings_of(indexed)["sample"]
    assert sample.ok
    assert "1 changed since, 1 unreachable" in sample.detail


def test_the_command_ends_with_1_where_something_is_broken(indexed: Database) -> None:
    heads(indexed)[0].write_bytes(b"")
    result = CliRunner().invoke(main, ["db", "verify", "--db", str(indexed.path)])
    assert result.exit_code == 1
    assert "corpus  files    BROKEN" in result.stdout
    assert "see --repair" in result.stderr


def test_a_table_that_is_compacted_while_it_is_read_is_read_again_and_not_rolled_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_of(database, unit_vectors(10))
    read_rows = verify_module._read_rows

    def read_what_is_deleted(opened: KeyedTable, sample_size: int) -> Any:
        monkeypatch.setattr(verify_module, "_read_rows", read_rows)
        table.delete_ids(["000000"])
        table.compact(retain_days=0)
        raise DatabaseError("a file is not there")

    monkeypatch.setattr(verify_module, "_read_rows", read_what_is_deleted)
    (files, *_) = verify_module.verify(database, "corpus", repair=True, sample_size=0)
    assert (files.ok, files.repaired) == (True, False)
    assert "9 rows, all readable" in files.detail
    assert not list(database.path.rglob("*.damaged"))
