"""Recordings named without their suffix: found where exactly one file has that name, else an error that says so."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clara_search.datasets.manifests import Manifest
from clara_search.errors import ClaraError, FormatError


def files(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_names_as_fsd50k_has_them_are_those_of_the_files_beside_them(suffix: str, tmp_path: Path) -> None:
    files(tmp_path, "64760.wav", "16399.wav", "clips/16399.flac", "clips/7.ogg")
    if suffix == "csv":
        (tmp_path / "dev.csv").write_text("fname,labels\n64760,Guitar\n16399,Rain\n7,Dog\n8,Cat\n")
    else:
        table = pa.table({"fname": [64760, 16399, 7, 8], "labels": ["Guitar", "Rain", "Dog", "Cat"]})
        pq.write_table(table, tmp_path / "dev.parquet")
    rows = list(Manifest(str(tmp_path / f"dev.{suffix}")).rows())
    assert [row.path for row in rows] == ["64760.wav", None, "clips/7.ogg", None]
    assert rows[0].columns == {"labels": "Guitar"}
    assert rows[1].problem == (
        "'16399' is the name of several audio files, 16399.wav and clips/16399.flac: name the file with its suffix"
    )
    assert "no audio file 8.* lies beside the manifest or in its folder wavs" in str(rows[3].problem)


def test_names_without_files_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "dev.csv").write_text("fname,labels\n64760,Guitar\n")
    with pytest.raises(FormatError, match="name it with `path_column`"):
        list(Manifest(str(tmp_path / "dev.csv")).rows())


def test_ljspeech_has_no_header(tmp_path: Path) -> None:
    files(tmp_path, "wavs/LJ001-0001.wav", "wavs/LJ001-0002.wav")
    lines = 'LJ001-0001|Printing, in "one" sense|Printing, in one sense\nLJ001-0002|in 1923|in nineteen\n'
    (tmp_path / "metadata.csv").write_text(lines)
    first, second = Manifest(str(tmp_path / "metadata.csv")).rows()
    assert (first.line, first.path, first.texts) == (1, "wavs/LJ001-0001.wav", ('Printing, in "one" sense',))
    assert first.columns == {"normalized_text": "Printing, in one sense"}
    assert (second.path, second.texts) == ("wavs/LJ001-0002.wav", ("in 1923",))


def test_a_command_of_kaldi_is_refused(tmp_path: Path) -> None:
    (tmp_path / "wav.scp").write_text(f"u1 a b.wav\n\nu2 touch {tmp_path}/ran |\nu3\nu4 c.flac\n")
    problems: list[ClaraError] = []
    rows = list(Manifest(str(tmp_path / "wav.scp")).rows(problems.append))
    assert [(row.line, row.path) for row in rows] == [(1, "a b.wav"), (5, "c.flac")]
    assert [dict(row.columns) for row in rows] == [{"utterance_id": "u1"}, {"utterance_id": "u4"}]
    assert "line 3: holds a command, which is not run" in str(problems[0])
    assert "line 4: expected the name of an utterance and a path" in str(problems[1])
    assert not (tmp_path / "ran").exists()
