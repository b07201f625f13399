"""Names relative to a folder: they never lead out of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from clara_search.errors import ConfigError
from clara_search.files.gate import RefusedUri
from clara_search.store.names import StoredNames, relative_folder


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("/data/rec/a.wav", "./a.wav"),
        ("/data/rec/in/a.wav", "./in/a.wav"),
        ("/data/rec", "./"),
        ("/data/rec/t.txt#L3", "./t.txt#L3"),
        ("/data/rec/a.wav#t=1,2", "./a.wav#t=1,2"),
        ("tar://k/a.wav::/data/rec/s.tar", "tar://k/a.wav::./s.tar"),
        ("/data/recorder/a.wav", "/data/recorder/a.wav"),
        ("/data/other/a.wav", "/data/other/a.wav"),
        ("s3://data/rec/a.wav", "s3://data/rec/a.wav"),
        ("tar://k.wav::https://h/s.tar", "tar://k.wav::https://h/s.tar"),
        ("call/1", "call/1"),
    ],
)
def test_names_in_the_folder_are_relative_to_it_and_come_back(name: str, stored: str) -> None:
    names = StoredNames.of(Path("/data/sounds.db"), "../rec")
    assert names.store(name) == stored
    assert names.resolve(stored) == name
    assert StoredNames().store(name) == StoredNames().resolve(name) == name
    moved = StoredNames.of(Path("/new/sounds.db"), "../rec")
    assert moved.resolve(stored) == (name if stored == name else name.replace("/data/rec", "/new/rec"))


@pytest.mark.parametrize("name", ["./../a.wav", "./in/../../a.wav", "./..", "./.", "tar://k.wav::./../s.tar"])
def test_a_name_that_leads_out_of_the_folder_is_refused(name: str) -> None:
    names = StoredNames("/data/rec")
    with pytest.raises(RefusedUri, match="leads out of /data/rec"):
        names.resolve(name)
    assert names.show(name) == name


def test_a_folder_is_relative_to_a_database_on_this_machine_alone() -> None:
    assert relative_folder("/data/sounds.db", False, "/data/rec") == "../rec"
    assert relative_folder("/data/rec/sounds.db", False, "/data/rec") == ".."
    for database, is_remote, folder in (("s3://b/db", True, "/data"), ("/data/db", False, "s3://b")):
        with pytest.raises(ConfigError, match="only if that and the database are local"):
            relative_folder(database, is_remote, folder)
