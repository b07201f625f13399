"""A ledger and its table agree again after a killed run or a lost version."""

from __future__ import annotations

from pathlib import Path

import pytest

from clara_search.store.database import Database
from indexer.pipeline import index
from tests.helpers import ToneEncoder, write_tone


def test_a_row_that_a_killed_run_left_behind_goes_with_its_recording(
    recordings: Path, database: Database, encoder: ToneEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the rows and the ledger; then the file is replaced by a shorter one before the next run."""
    path = write_tone(recordings / "long.wav", duration_s=30)
    monkeypatch.setattr("indexer.ledger.ledger.Ledger.record", lambda *_: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception, match="killed"):
        index([recordings], database, encoder)
    monkeypatch.undo()
    assert database.table().count("uri LIKE '%long.wav'") == 5
    write_tone(path, 440, duration_s=2)
    assert index([recordings], database, encoder).rows == 4
    assert database.table().scan(["end_s"], "uri LIKE '%long.wav'")["end_s"].to_pylist() == [2.0]


def test_a_row_that_a_killed_run_left_behind_is_pruned_with_its_recording(
    recordings: Path, database: Database, encoder: ToneEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.ledger.ledger.Ledger.record", lambda *_: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception, match="killed"):
        index([recordings], database, encoder)
    monkeypatch.undo()
    (recordings / "low.wav").unlink()
    summary = index([recordings], database, encoder, prune=True)
    assert (summary.indexed, summary.removed, summary.rows) == (2, 1, 2)


def test_rows_that_somebody_else_wrote_are_left_alone(
    recordings: Path, database: Database, encoder: ToneEncoder
) -> None:
    index([recordings], database, encoder)
    table = database.table()
    rows = table.scan(table.schema.names).slice(0, 1).to_pylist()
    rows[0] |= {"id": "of-their-own", "uri": "/elsewhere/theirs.wav"}
    import pyarrow as pa

    table.upsert(pa.Table.from_pylist(rows, schema=table.schema))
    assert index([recordings], database, encoder, prune=True).rows == 4


def test_rows_that_the_table_lost_are_written_again(recordings: Path, database: Database, encoder: ToneEncoder) -> None:
    index([recordings], database, encoder)
    table = database.table()
    table.delete_ids(table.scan(["id"])["id"].to_pylist()[:1])
    summary = index([recordings], database, encoder)
    assert (summary.indexed, summary.unchanged, summary.rows) == (1, 2, 3)
