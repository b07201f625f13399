"""What a folder holds: recordings by suffix or content, and what is left alone, counted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from clara_search.errors import SourceError
from clara_search.store.database import Database
from indexer.ledger.failures import notes
from indexer.pipeline import index
from indexer.sources.base import Selection
from indexer.sources.listing import list_items
from tests.clara_search.audio.decode.files import contained, melody, tone
from tests.helpers import ToneEncoder, write_tone


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tone(tmp_path / "in" / "a.wav")
    write_tone(tmp_path / "in" / "deep" / "b.FLAC".lower())
    (tmp_path / "in" / "voice").write_bytes((tmp_path / "in" / "a.wav").read_bytes())
    (tmp_path / "in" / "stream.ts").write_bytes(contained(melody(1.0), "mpegts", "aac"))
    (tmp_path / "in" / "program.ts").write_text("export const answer = 42;\n")
    for name in ("x.nfo", "y.nfo", "deep/cover.JPG"):
        (tmp_path / "in" / name).write_bytes(b"ABC" * 99)
    (tmp_path / "in" / ".hidden.nfo").write_text("")
    (tmp_path / "in" / "link.wav").symlink_to(tmp_path / "in" / "a.wav")
    return tmp_path / "in"


def test_files_of_other_kinds_are_counted_by_suffix(folder: Path, database: Database) -> None:
    summary = index([folder], database, ToneEncoder())
    assert (summary.indexed, summary.failed) == (3, 0)
    left_alone = {".nfo": 2, ".jpg": 1, ".ts": 1, "without a suffix": 1, "symbolic links": 1}
    assert summary.left_alone == left_alone
    assert index([folder], database, ToneEncoder()).left_alone == left_alone


def test_content_tells_recordings_of_other_names(folder: Path, database: Database) -> None:
    summary = index([folder], database, ToneEncoder(), sniff=True, follow_symlinks=True)
    assert (summary.indexed, summary.failed) == (5, 0)
    assert summary.left_alone == {".nfo": 2, ".jpg": 1, ".ts": 1}
    uris = {Path(uri).name for uri in database.table().scan(["uri"])["uri"].to_pylist()}
    assert uris == {"a.wav", "b.flac", "voice", "stream.ts", "link.wav"}


def test_every_file_of_a_folder_is_an_item_or_left_alone(folder: Path) -> None:
    selection = Selection()
    items = list(list_items([folder], selection))
    files = [path for path in folder.rglob("*") if not path.is_dir() and not path.name.startswith(".")]
    assert len(items) + sum(selection.left_alone.values()) == len(files)
    assert isinstance(selection.left_alone, Counter)


def test_a_folder_without_recordings_is_an_error(tmp_path: Path, database: Database) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.nfo").write_text("")
    with pytest.raises(SourceError, match="no recordings found"):
        index([tmp_path / "in"], database, ToneEncoder())


def test_another_track_is_another_content(tmp_path: Path, database: Database) -> None:
    film = tmp_path / "film.mkv"
    film.write_bytes(contained([tone(2.0, 300), tone(2.0, 3000)], "matroska", "flac"))
    assert index([film], database, ToneEncoder()).noted == 1
    first = np.asarray(database.table().scan(["vector"])["vector"].to_pylist()[0])
    assert notes(database) == [{"uri": str(film), "notes": ["other tracks: 1"]}]
    assert index([film], database, ToneEncoder(), track=2).indexed == 1
    second = np.asarray(database.table().scan(["vector"])["vector"].to_pylist()[0])
    assert notes(database) == [{"uri": str(film), "notes": ["track 2 of 2"]}]
    assert float(first @ second) < 0.9
    assert index([film], database, ToneEncoder(), track=2).unchanged == 1
    summary = index([film], database, ToneEncoder())
    assert (summary.indexed, summary.reused) == (1, 0)
    np.testing.assert_array_equal(first, database.table().scan(["vector"])["vector"].to_pylist()[0])
