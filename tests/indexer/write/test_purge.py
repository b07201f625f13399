"""`db purge`: what was deleted is nowhere on the disk; `db optimize`: few files, old versions as long as asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result

from clara_search.commands.main import main
from clara_search.retrieval.ann import index as ann
from clara_search.store.database import Database
from indexer.pipeline import index
from tests.helpers import ToneEncoder, write_tone


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["db", *map(str, arguments)])


def holds(folder: Path, content: bytes) -> bool:
    return any(content in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_nothing_of_a_deleted_recording_is_left_on_the_disk(tmp_path: Path, database: Database) -> None:
    recordings = tmp_path / "recordings"
    for number in range(20):
        write_tone(recordings / f"take {number:02}.wav", 200 + 50 * number, duration_s=0.2)
    secret = write_tone(recordings / "confession.wav", 3000, duration_s=0.2)
    (tmp_path / "notes.txt").write_text("a sentence that must go\nanother that stays\n")
    index([tmp_path / "notes.txt"], database, ToneEncoder())  # by itself: Lance compresses longer columns
    index([recordings], database, ToneEncoder())
    table = database.table()
    ann.build(table)
    row = table.scan(["vector", "content_hash"], where="uri LIKE '%confession.wav'")
    vector = np.asarray(row["vector"][0].as_py(), np.float32).tobytes()
    traces = [vector, row["content_hash"][0].as_py().encode(), b"confession.wav", b"a sentence that must go"]
    secret.unlink()
    (tmp_path / "notes.txt").write_text("another that stays\n")
    index([recordings, tmp_path / "notes.txt"], database, ToneEncoder(), prune=True)
    assert [holds(database.path, trace) for trace in traces] == [True] * 4  # in versions that are kept for half a day

    optimized = run("optimize", "--db", database.path)
    assert optimized.exit_code == 0, optimized.output
    assert [holds(database.path, trace) for trace in traces] == [True] * 4

    purged = run("purge", "--db", database.path)
    assert purged.exit_code == 0, purged.output
    assert "the ANN index held deleted rows and was dropped" in purged.output
    assert [holds(database.path, trace) for trace in traces] == [False] * 4
    assert database.table().count() == 21
    assert index([recordings, tmp_path / "notes.txt"], database, ToneEncoder(), prune=True).unchanged == 21


def test_an_index_without_deleted_rows_survives_and_files_become_few(tmp_path: Path, database: Database) -> None:
    for number in range(12):
        write_tone(tmp_path / "recordings" / f"{number}.wav", 200 + 50 * number, duration_s=0.2)
        index([tmp_path / "recordings"], database, ToneEncoder())
    ann.build(database.table())
    many = sum(path.is_file() for path in (database.path / "corpus.lance").rglob("*"))
    result = run("optimize", "--db", database.path, "--retain-days", "0")
    assert result.exit_code == 0, result.output
    few = sum(path.is_file() for path in (database.path / "corpus.lance").rglob("*"))
    assert few < 8 < many
    assert result.output.startswith("corpus: ")
    run("purge", "--db", database.path)
    assert ann.status(database.table()) is not None
