from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from clara_search.store.database import Database
from indexer.ledger.failures import stored_ledger
from indexer.pipeline import index
from indexer.write import writer as writing
from tests.helpers import ToneEncoder, write_tone

FILES = 96


class Slow(ToneEncoder):
    def encode_audio(self, waveforms: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        time.sleep(0.05 * len(waveforms))  # it is killed long before it is through
        return super().encode_audio(waveforms)


def index_slowly(folder: Path, database: Path) -> None:
    writing._COMMIT_ROWS = 8
    index([folder], Database(database, create=True), Slow(), window_s=1, hop_s=0.5)


@pytest.mark.slow
def test_a_killed_run_is_taken_up_and_ends_with_the_same_rows(tmp_path: Path) -> None:
    """Killed as soon as there are rows: they are whole recordings, and the next run embeds only what is not noted."""
    folder = tmp_path / "many"
    for number in range(FILES):
        write_tone(folder / f"{number:03}.wav", 100 + 50 * number, duration_s=2.0)
    path = tmp_path / "db"
    worker = multiprocessing.get_context("spawn").Process(target=index_slowly, args=(folder, path))
    worker.start()
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and worker.is_alive() and _rows(path) == 0:
        time.sleep(0.02)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()

    database = Database(path)
    windows_of_each = database.table().scan(["uri"])["uri"].value_counts().to_pylist()
    assert 0 < len(windows_of_each) < FILES
    assert {entry["counts"] for entry in windows_of_each} == {3}
    ledger = stored_ledger(database, "corpus")
    assert ledger is not None
    noted = ledger.count("status = 'done'")
    encoder = ToneEncoder()
    summary = index([folder], database, encoder)
    assert (summary.indexed, summary.unchanged, summary.rows) == (FILES - noted, noted, 3 * FILES)
    assert encoder.clips_encoded == 3 * (FILES - noted)
    assert len(set(database.table().scan(["id"])["id"].to_pylist())) == 3 * FILES


def _rows(path: Path) -> int:
    if not path.is_dir():
        return 0
    database = Database(path)
    return database.table().count() if database.table_names() else 0
