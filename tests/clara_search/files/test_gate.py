"""The gate: which names out of data it admits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fsspec.registry import known_implementations

from clara_search.errors import FormatError
from clara_search.files.gate import PROTOCOLS, ForeignUri, RefusedUri, admit, admit_entry, child_of
from clara_search.files.paths import read_bytes
from indexer.sources.listing import list_items
from tests.clara_search.files.conftest import Server


def test_the_reference_file_is_one_that_harms_whoever_opens_it(reference: str, server: Server) -> None:
    """Otherwise the tests below could not fail."""
    with pytest.raises((FormatError, OSError)):
        read_bytes(reference)
    assert any("leak.json" in request for request in server.requests)


@pytest.mark.parametrize("protocol", sorted({*known_implementations, "c", "nonsense", ""} - PROTOCOLS - {"tar"}))
def test_no_other_protocol_is_opened_for_data(protocol: str) -> None:
    with pytest.raises(RefusedUri):
        admit(ForeignUri(f"{protocol}://host/a.wav", "/m.csv"))
    with pytest.raises(RefusedUri):
        admit(ForeignUri(f"{protocol}://a.wav::https://host/a.zip", "/m.csv"))
    with pytest.raises(RefusedUri):
        admit(ForeignUri(f"tar://a.wav::{protocol}://host/a.tar", "/m.csv"))


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_urls_of_the_web_and_of_stores_are_opened_but_no_chains_of_them(protocol: str) -> None:
    url = f"{protocol}://bucket/a b.wav"
    assert admit(ForeignUri(url, "/m.csv")) == admit(ForeignUri(url)) == url
    assert admit(ForeignUri(f"tar://k/a.wav::{url}")) == f"tar://k/a.wav::{url}"
    nested = "tar://a::" * 5000
    for chain in (
        f"{nested}{url}",
        f"tar://a.wav::tar://b.tar::{url}",
        f"{url}::{url}",
        f"tar://a.wav::{url}::{url}",
        f"tar://a.wav::tar://b.tar::{url}::file:///etc/x",
    ):
        with pytest.raises(RefusedUri):
            admit(ForeignUri(chain, "/m.csv"))


@pytest.mark.parametrize(
    ("name", "base", "expected"),
    [
        ("a.wav", "/data/m.csv", "/data/a.wav"),
        ("../b/a.wav", "/data/m.csv", "/b/a.wav"),
        ("/x/a.wav", "/data/m.csv", "/x/a.wav"),
        ("/x/a::b.wav", None, "/x/a::b.wav"),
        ("simplecache::a.wav", "/data/m.csv", "/data/simplecache::a.wav"),
        ("tar://a.wav::s.tar", "/data/m.csv", "tar://a.wav::/data/s.tar"),
        ("in/a.wav", "s3://bucket/d/m.csv", "s3://bucket/d/in/a.wav"),
        ("a.wav", "https://h/d/m.csv?key=a/b", "https://h/d/a.wav"),
        ("tar://a.wav::s.tar", "s3://bucket/d/m.csv", "tar://a.wav::s3://bucket/d/s.tar"),
    ],
)
def test_paths_are_relative_to_the_file_that_names_them(name: str, base: str | None, expected: str) -> None:
    assert admit(ForeignUri(name, base)) == expected


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("a.wav", None),
        ("", None),
        ("a\0.wav", "/m.csv"),
        ("/etc/passwd", "https://host/m.csv"),
        ("tar://a.wav::/home/me/s.tar", "https://host/m.csv"),
        ("file:///etc/passwd", "/m.csv"),
        ("a.wav::file:///etc/passwd", "https://host/m.csv"),
        ("a.wav", "zip://m.csv::https://host/a.zip"),
    ],
)
def test_a_path_of_this_machine_needs_a_base_on_it(name: str, base: str | None) -> None:
    with pytest.raises(RefusedUri):
        admit(ForeignUri(name, base))


def test_a_store_that_was_typed_lists_files_in_its_folders_and_nothing_else() -> None:
    assert admit_entry("memory://x", "a.wav") == "memory://x/a.wav"
    assert admit_entry("zip://in::http://h/a.zip", "a.wav") == "zip://in/a.wav::http://h/a.zip"
    assert admit_entry("/data", "a::b.wav") == "/data/a::b.wav"
    for name in ("a::http://h/x", "../a.wav", "b/../../a.wav", "a\0.wav"):
        with pytest.raises(RefusedUri):
            admit_entry("memory://x", name)


@pytest.mark.parametrize("name", ["../a.arrow", "/etc/passwd", "a/b.arrow", "..", ".", "", 1, None, "a\0"])
def test_the_state_of_a_data_set_names_files_beside_it_only(name: object, tmp_path: Path) -> None:
    with pytest.raises(RefusedUri):
        child_of(tmp_path, name)
    folder = tmp_path / "set"
    folder.mkdir()
    for file, content in (
        ("state.json", {"_data_files": [{"filename": name}]}),
        ("dataset_dict.json", {"splits": [name]}),
    ):
        (folder / file).write_text(json.dumps(content))
        with pytest.raises(FormatError):
            list(list_items([folder]))
        (folder / file).unlink()


def test_a_message_shows_no_control_characters_and_no_endless_name() -> None:
    with pytest.raises(RefusedUri) as refused:
        admit(ForeignUri("ssh://\x1b]52;c;AAAA\x07\n\u202e" + "x" * 10_000))
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 500
