"""A store that does not answer is not taken for a missing file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from clara_search.files.listing import list_folder
from clara_search.files.network.access import trust
from clara_search.files.paths import is_missing, join, read_bytes
from tests.stores import FORBIDDEN, UNAVAILABLE, Proxy, proxied


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[Proxy, str]]:
    """A web server of a folder with a file, behind a proxy, and its address."""
    pytest.importorskip("aiohttp", reason="fsspec needs aiohttp for http")
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.wav").write_bytes(b"sound")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with proxied(f"http://127.0.0.1:{server.server_port}") as proxy_and_url:
        trust(proxy_and_url[1])
        yield proxy_and_url
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_a_web_server_that_fails_does_not_say_that_a_file_is_gone(web: tuple[Proxy, str]) -> None:
    proxy, address = web
    assert is_missing(f"{address}/none.wav")
    assert not is_missing(f"{address}/a.wav")
    assert [entry.name for entry in list_folder(address)] == ["a.wav", "sub"]
    for answer in (UNAVAILABLE, FORBIDDEN):
        proxy.rule = lambda method, path, answer=answer: answer  # type: ignore[misc]
        for ask in (is_missing, list_folder, read_bytes):
            with pytest.raises(OSError, match=str(answer[0])) as caught:
                ask(f"{address}/none.wav")  # type: ignore[operator]
            assert not isinstance(caught.value, FileNotFoundError)
    trust("http://127.0.0.1:9")
    with pytest.raises(OSError, match="Connect"):
        is_missing("http://127.0.0.1:9/a.wav")


def test_only_a_file_is_there(tmp_path: Path) -> None:
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "a.wav").write_bytes(b"")
    (tmp_path / "link.wav").symlink_to(tmp_path / "nowhere.wav")
    missing = {name: is_missing(tmp_path / name) for name in ("folder.wav", "a.wav", "link.wav", "a.wav/b", "none")}
    assert missing == {"folder.wav": True, "a.wav": False, "link.wav": False, "a.wav/b": True, "none": True}


@pytest.mark.parametrize(
    ("folder", "child"),
    [
        ("/a", "/a/x"),
        ("/", "/x"),
        ("s3://b/a", "s3://b/a/x"),
        ("s3://", "s3://x"),
        ("zip://::s3://b/a.zip", "zip://x::s3://b/a.zip"),
        ("zip://in::s3://b/a.zip", "zip://in/x::s3://b/a.zip"),
        ("simplecache::s3://b/a", "simplecache::s3://b/a/x"),
    ],
)
def test_a_name_is_joined_to_the_folder_of_a_chain(folder: str, child: str) -> None:
    assert join(folder, "x") == child
