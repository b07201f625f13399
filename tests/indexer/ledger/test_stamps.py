"""Stamps: which files are known by size and time, and need not be read."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from clara_search.store.database import Database
from indexer.pipeline import index
from tests.helpers import ToneEncoder


@pytest.mark.parametrize("days", [1 / 24, 400])
def test_a_time_in_the_future_is_settled_once(
    recordings: Path, database: Database, monkeypatch: pytest.MonkeyPatch, days: float
) -> None:
    """A file that a program dated ahead is read until it is old enough by the time when its status changed."""
    for path in recordings.rglob("*.*"):
        os.utime(path, (time.time() + days * 86_400,) * 2)
    index([recordings], database, ToneEncoder())
    monkeypatch.setattr("clara_search.files.paths._UNTRUSTED_NS", 1_000_000)
    time.sleep(0.01)
    index([recordings], database, ToneEncoder())
    monkeypatch.setattr("indexer.decode.read.read_bytes", lambda path: pytest.fail(f"read {path}"))
    version = database.table().version
    assert index([recordings], database, ToneEncoder()).unchanged == 3
    assert database.table().version == version
