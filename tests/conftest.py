from __future__ import annotations

import os
from pathlib import Path

import pytest

# Tests run beside each other: threads of one that wait for each other would wait for those of the others.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from clara_search.store.database import Database
from tests.helpers import ToneEncoder, write_tone


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("first") is None)


@pytest.fixture
def encoder() -> ToneEncoder:
    return ToneEncoder()


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "db", create=True)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A folder with three tones of one second: low.wav, middle.flac and high/high.ogg."""
    folder = tmp_path / "recordings"
    write_tone(folder / "low.wav", 200)
    write_tone(folder / "middle.flac", 1000)
    write_tone(folder / "high" / "high.ogg", 5000)
    return folder
