from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from clara_search.store.database import Database
from indexer.pipeline import index
from indexer.write import writer as writing
from tests.helpers import ToneEncoder, write_tone

PROCESSES = 4
FILES = 60


def index_part(folder: Path, database: Path, number: int) -> None:
    """Half of the files, starting at another file in each process, so that each file is indexed by two of them."""
    writing._COMMIT_ROWS = 8
    names = sorted(folder.iterdir())
    start = number * FILES // PROCESSES
    chosen = [*names[start:], *names[:start]][: FILES // 2]
    index(chosen, Database(database, create=True), ToneEncoder(), window_s=1, hop_s=0.5)


@pytest.mark.slow
def test_processes_with_overlapping_sources_lose_no_row_and_double_none(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    for number in range(FILES):
        write_tone(folder / f"{number:03}.wav", 100 + 50 * number, duration_s=2.0)
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=index_part, args=(folder, tmp_path / "db", number)) for number in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(240)
    assert [worker.exitcode for worker in workers] == [0] * PROCESSES
    database = Database(tmp_path / "db")
    ids = database.table().scan(["id"])["id"].to_pylist()
    assert len(ids) == len(set(ids)) == 3 * FILES
    encoder = ToneEncoder()
    summary = index([folder], database, encoder)
    assert (summary.indexed, summary.unchanged, summary.rows) == (0, FILES, 3 * FILES)
    assert encoder.clips_encoded == 0
