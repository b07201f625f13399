"""A source format is one file: of this package with one line in the registry, of another with one entry point."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner

from clara_search.commands.main import main
from clara_search.errors import SourceError
from clara_search.store.database import Database
from indexer.ledger.failures import failures
from indexer.sources.listing import list_items, survey_sources
from indexer.sources.registry import READERS, find_reader, source_readers
from tests.helpers import ToneEncoder, write_tone

PLAYLIST_READER = '''
from clara_search.files.tables import Row, read_lines
from indexer.sources.base import SourceReader
from indexer.sources.row import row_item


class PlaylistReader(SourceReader):
    """M3U playlists."""

    suffixes = frozenset({".m3u", ".m3u8"})

    def items(self, path, selection):
        title = None
        for number, line in enumerate(map(str.strip, read_lines(path)), start=1):
            if line.startswith("#EXTINF:"):
                title = line.partition(",")[2].strip() or None
            elif line and not line.startswith("#"):
                yield row_item(path, Row(number, {"path": line, "title": title}))
                title = None
'''


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path with an installed package that reads playlists."""
    site = tmp_path / "site"
    (site / "playlists-1.0.dist-info").mkdir(parents=True)
    (site / "playlists.py").write_text(PLAYLIST_READER)
    (site / "playlists-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: playlists\nVersion: 1.0\n")
    (site / "playlists-1.0.dist-info" / "entry_points.txt").write_text(
        "[clara_search.sources]\nm3u = playlists:PlaylistReader\n"
    )
    monkeypatch.syspath_prepend(str(site))
    source_readers.cache_clear()
    yield site
    source_readers.cache_clear()


def test_a_format_of_another_package_is_indexed_by_the_command(
    install: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clara_search.models.registry.load_encoder", lambda *_, **__: ToneEncoder())
    write_tone(tmp_path / "in" / "a.wav", 440)
    write_tone(tmp_path / "in" / "b.wav", 550)
    playlist = tmp_path / "in" / "list.m3u"
    playlist.write_text("#EXTM3U\n#EXTINF:1,first\na.wav\nb.wav\nssh://host/c.wav\n")
    assert (survey_sources([playlist]).items, survey_sources([playlist]).columns) == (3, {"title": pa.string()})
    result = CliRunner().invoke(main, ["index", str(playlist), "--db", str(tmp_path / "db")])
    assert result.exit_code == 0, result.output
    rows = Database(tmp_path / "db").table().scan(["uri", "title"]).sort_by("uri").to_pylist()
    assert [(Path(row["uri"]).name, row["title"]) for row in rows] == [("a.wav", "first"), ("b.wav", None)]
    (failure,) = failures(Database(tmp_path / "db"))
    assert "opened only where it is typed" in failure["reason"]
    playlist.write_text("b.wav\n")
    result = CliRunner().invoke(main, ["index", str(playlist), "--db", str(tmp_path / "db"), "--prune"])
    assert "1 rows removed" in result.stdout


@pytest.mark.parametrize(
    ("target", "message"), [("nowhere:Reader", "cannot be imported"), ("json:loads", "no subclass")]
)
def test_an_entry_point_that_is_no_format_is_named(install: Path, target: str, message: str) -> None:
    (install / "playlists-1.0.dist-info" / "entry_points.txt").write_text(f"[clara_search.sources]\nm3u = {target}\n")
    with pytest.raises(SourceError, match=f"'m3u' .*{message}"):
        source_readers()


def test_every_built_in_format_is_found_by_its_suffix_and_a_folder_by_what_it_is(tmp_path: Path) -> None:
    for reader in READERS:
        for suffix in reader.suffixes:
            assert find_reader(f"s3://bucket/x{suffix.upper()}") is reader
            (tmp_path / f"x{suffix}").touch()
            assert find_reader(str(tmp_path / f"x{suffix}")) is reader
    (tmp_path / "folder.wav").mkdir()
    assert type(find_reader(str(tmp_path / "folder.wav"))).__name__ == "FolderReader"
    assert type(find_reader("s3://bucket/folder.v2")).__name__ == "FolderReader"
    suffixes = [suffix for reader in READERS for suffix in reader.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert list(list_items([tmp_path / "folder.wav"])) == []
