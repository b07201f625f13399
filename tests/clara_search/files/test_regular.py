"""Files of this machine that are no files, or not as long as they say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clara_search.errors import AudioError, FormatError
from clara_search.files.limits import AUDIO_BYTES, JSON_BYTES, WEIGHTS_BYTES, limits
from clara_search.files.regular import NotRegular, open_regular, read_regular, size_of

LINUX = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(1 << 20))
    assert read_regular(path, JSON_BYTES) == bytes(1 << 20)
    link = tmp_path / "link"
    link.symlink_to(path)
    assert len(read_regular(str(link), JSON_BYTES)) == 1 << 20
    with limits(audio_bytes=100), pytest.raises(AudioError, match=r"a: 1,048,576 bytes of a recording's file"):
        read_regular(path, AUDIO_BYTES, AudioError)


def test_an_open_file_knows_its_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with open_regular(tmp_path / "a") as file:
        assert (Path(file.name), file.read()) == (tmp_path / "a", b"x")


def test_pipes_devices_and_folders_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero", "/dev/null"):
        with pytest.raises(NotRegular, match="is no file, but a pipe, a device or a folder"):
            open_regular(path)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "nothing")


@LINUX
def test_a_file_of_proc_holds_more_than_it_says() -> None:
    with pytest.raises(FormatError, match=r"/proc/self/environ: holds more than the 0 bytes"):
        read_regular("/proc/self/environ", JSON_BYTES)


@pytest.mark.parametrize("written", [(), (0,), (1 << 30,), (0, 1 << 29, 1 << 30)])
def test_a_file_of_holes_is_refused(tmp_path: Path, written: tuple[int, ...]) -> None:
    path = tmp_path / "weights"
    with path.open("wb") as file:
        for position in written:
            file.seek(position)
            file.write(b"x" * 4096)
        file.truncate(2 << 30)
    with open_regular(path) as file, pytest.raises(FormatError, match="is a sparse file: of its 2,147,483,648 bytes"):
        size_of(file, path, WEIGHTS_BYTES)


def test_a_file_with_some_holes_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    with path.open("wb") as file:
        file.write(b"x" * (20 << 20))
        file.seek(10 << 20, os.SEEK_CUR)
        file.write(b"x" * (1 << 20))
        file.truncate(40 << 20)
    with open_regular(path) as file:
        assert size_of(file, path) == 40 << 20
        assert file.read(1) == b"x"
