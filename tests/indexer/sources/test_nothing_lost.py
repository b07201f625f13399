"""Whatever a source holds is indexed, unchanged, failed, or counted as left alone."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from clara_search.store.database import Database
from indexer.ledger.failures import failures
from indexer.pipeline import IndexResult, index
from indexer.sources.listing import Source
from indexer.sources.memory import Recording
from tests.helpers import ToneEncoder, tone, write_tone


def folder(path: Path) -> tuple[list[Source], int]:
    """Nine files and links; hidden ones do not count."""
    write_tone(path / "f" / "a.wav", 300)
    write_tone(path / "f" / "in" / "b.flac", 400)
    for name in ("c.wav", "in/d.ogg", "e.jpg", "in/f.JPG", "g.txt", "h", ".hidden.wav", ".DS_Store"):
        (path / "f" / name).write_text("no sound")
    (path / "f" / "link.wav").symlink_to(path / "f" / "a.wav")
    return [path / "f"], 9


def manifest(path: Path) -> tuple[list[Source], int]:
    write_tone(path / "a.wav", 300)
    rows = ["a.wav,one", "a.wav,two", "gone.wav,three", ",four", ",", "a.wav,one"]
    (path / "m.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    return [path / "m.csv"], len(rows)


def shards(path: Path) -> tuple[list[Source], int]:
    """Keys that are good, ambiguous, broken and of other kinds; members that are none of an example."""
    wav = write_tone(path / "a.wav", 300).read_bytes()
    text, keys = b'{"text": "t"}', 0
    members: dict[str, dict[str, bytes]] = {
        "good": {"wav": wav, "json": text},
        "other": {"flac": wav, "cls": b"3"},
        "broken": {"wav": b"no sound"},
        "two": {"wav": wav, "mix.wav": wav},
        "bad": {"wav": wav, "json": b"{"},
        "alone": {"txt": b"words"},
    }
    with tarfile.open(path / "s.tar", "w") as archive:
        for key, parts in members.items():
            keys += 1
            for suffix, content in parts.items():
                _add(archive, f"{key}.{suffix}", content)
        for name in ("picture.jpg", "README", ".hidden"):
            _add(archive, name, b"x")
        _add(archive, "good.wav", wav)
    return [path / "s.tar"], keys + 3


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def saved_dataset(path: Path) -> tuple[list[Source], int]:
    wav = write_tone(path / "a.wav", 300).read_bytes()
    audio = [{"bytes": wav, "path": None}, {"bytes": b"no sound", "path": None}, {"bytes": None, "path": "gone.wav"}]
    table = pa.table({"audio": audio, "text": ["one", "two", "three"]})
    (path / "set").mkdir()
    with pa.ipc.new_stream(str(path / "set" / "data.arrow"), table.schema) as writer:
        writer.write_table(table)
    (path / "set" / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    parquet.write_table(table, path / "rows.parquet")
    return [path / "set", path / "rows.parquet"], 6


def patterns(path: Path) -> tuple[list[Source], int]:
    sources, _ = folder(path)
    return [f"{sources[0]}/**/*.wav", f"{sources[0]}/*.wav"], 6


def in_memory(path: Path) -> tuple[list[Source], int]:
    good = Recording("one", tone(440), 16_000)
    return [good, good, Recording("two", np.zeros(0, np.float32), 16_000), Recording("three", tone(550), 16_000)], 4


def texts(path: Path) -> tuple[list[Source], int]:
    (path / "t.txt").write_text("one\n\ntwo\none\n")
    return [path / "t.txt", path / "t.txt"], 6


def mixture(path: Path) -> tuple[list[Source], int]:
    """A manifest and the folder that it describes: a recording counts where it is listed first."""
    write_tone(path / "f" / "a.wav", 300)
    write_tone(path / "f" / "b.wav", 400)
    (path / "f" / "m.csv").write_text("path,label\na.wav,x\n")
    return [path / "f" / "m.csv", path / "f"], 4


def tables_in_memory(path: Path) -> tuple[list[Source], int]:
    """An Arrow table and a data frame, each with a file that is not there and a row that names none."""
    rows = [str(write_tone(path / "a.wav", 300)), str(path / "gone.wav"), None]
    others = [str(write_tone(path / "b.wav", 400)), str(path / "away.wav"), None]
    return [pa.table({"path": rows}), pa.table({"path": others}).to_pandas()], 6


def lists_of_corpora(path: Path) -> tuple[list[Source], int]:
    """Kaldi's list with a command and a missing file, LJ Speech's table with a missing one, and AudioSet's."""
    write_tone(path / "a.wav", 300)
    (path / "wav.scp").write_text("one a.wav\ntwo sox a.wav -t wav - |\nthree gone.wav\n")
    write_tone(path / "lj" / "wavs" / "b.wav", 400)
    (path / "lj" / "metadata.csv").write_text("b|Said.|Said.\ngone|Not there.|Not there.\n")
    write_tone(path / "set" / "c.wav", 500)
    (path / "set" / "s.csv").write_text('# made\n# YTID, start, labels\nc, 0.0, "/m/1,/m/2"\ngone, 0.0, x\n')
    return [path / "wav.scp", path / "lj" / "metadata.csv", path / "set" / "s.csv"], 7


def compressed_shards(path: Path) -> tuple[list[Source], int]:
    wav = write_tone(path / "a.wav", 300).read_bytes()
    with tarfile.open(path / "s.tar.gz", "w:gz") as archive:
        for name, content in {"one.wav": wav, "two.wav": b"no sound", "three.jpg": b"x"}.items():
            _add(archive, name, content)
    return [path / "s.tar.gz"], 3


def accounted(summary: IndexResult) -> int:
    return summary.indexed + summary.unchanged + summary.failed + sum(summary.left_alone.values())


@pytest.mark.parametrize(
    "make",
    [
        folder,
        manifest,
        shards,
        compressed_shards,
        saved_dataset,
        patterns,
        in_memory,
        tables_in_memory,
        lists_of_corpora,
        texts,
        mixture,
    ],
)
def test_all_that_a_source_holds_is_accounted_for(
    tmp_path: Path, database: Database, make: Callable[[Path], tuple[list[Source], int]]
) -> None:
    sources, count = make(tmp_path)
    first = index(sources, database, ToneEncoder())
    assert accounted(first) == count
    assert first.indexed > 0
    again = index(sources, database, ToneEncoder())
    assert accounted(again) == count
    assert (again.indexed, again.unchanged, again.failed) == (0, first.indexed, first.failed)
    assert len(failures(database)) == first.failed
    assert again.left_alone == first.left_alone
    assert index(sources, database, ToneEncoder(), retry_failed=True).failed == first.failed


def test_what_is_left_alone_is_counted_by_its_kind(tmp_path: Path, database: Database) -> None:
    sources, _ = folder(tmp_path)
    expected = {".jpg": 2, "symbolic links": 1, ".txt": 1, "without a suffix": 1}
    assert index(sources, database, ToneEncoder()).left_alone == expected
    sources, _ = shards(tmp_path)
    expected = {".jpg": 1, "without a suffix": 1}
    assert index(sources, database, ToneEncoder()).left_alone == expected


def test_keys_with_an_empty_part_are_said_not_to_be_listed(bucket: Any, tmp_path: Path, database: Database) -> None:
    wav = write_tone(tmp_path / "a.wav", 300).read_bytes()
    for key in ("a/b.wav", "a//c.wav"):
        bucket.call_s3("put_object", Bucket="sounds", Key=key, Body=wav)
    fsspec.filesystem("s3").invalidate_cache()
    for source in ("s3://sounds/a", "s3://sounds/a/**/*.wav"):
        summary = index([source], database, ToneEncoder(), prune=True)
        assert (summary.indexed + summary.unchanged, summary.failed, summary.unlisted) == (1, 1, 1)
        (failure,) = failures(database)
        assert failure["uri"] == "s3://sounds/a//"
        assert "keys with an empty part ('//') cannot be listed" in failure["reason"]
    assert index(["s3://sounds/a//c.wav"], database, ToneEncoder()).indexed == 1
