"""Which hosts and buckets data may name, and with whose credentials they are read."""

from __future__ import annotations

import re
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec.config
import pytest
from click.testing import CliRunner

from clara_search.commands.main import main
from clara_search.errors import ConfigError, SourceError
from clara_search.files.gate import ForeignUri, RefusedUri, admit
from clara_search.files.limits import limits
from clara_search.files.network import access
from clara_search.files.network.copies import open_cached_copy
from clara_search.files.network.http import is_public
from clara_search.files.paths import open_binary, read_bytes, stat_file
from clara_search.store.database import Database
from indexer.ledger.failures import failures
from indexer.pipeline import index
from tests.helpers import ToneEncoder, write_tone

PRIVATE = [
    *("127.0.0.1", "127.8.9.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1"),
    *("169.254.169.254", "168.63.129.16", "192.0.0.192", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1"),
    *(
        "255.255.255.255",
        "100.100.100.200",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
    ),
    *(
        "ff02::1",
        "fec0::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
    ),
    *("2002:7f00:1::", "2002:a00:1::1", "2001:0:7f00:1::", "2001:db8::1"),
]
PUBLIC = ["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.fixture(autouse=True)
def _guarded() -> Iterator[None]:
    before = access.state()
    access.restore(access.GUARDED)
    yield
    access.restore(before)


class Site:
    """A server of this machine; `/endless`, `/slow` and `/lying` do what they say."""

    def __init__(self, content: bytes = b"content", address: str = "127.0.0.1") -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.redirects: dict[str, str] = {}
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.requests.append((self.path, dict(self.headers)))
                head = self.command == "HEAD"
                if self.path in site.redirects:
                    self._reply(302, b"", Location=site.redirects[self.path])
                elif self.path.startswith("/status/"):
                    self._reply(int(self.path.rpartition("/")[2]), b"")
                elif self.path == "/slow" and not head:
                    self.send_response(200)
                    self.end_headers()
                    while not site.stopped.wait(0.05):
                        self.wfile.write(b".")
                elif self.path in ("/endless", "/lying") and not head:
                    self.send_response(206 if self.path == "/lying" else 200)
                    self.end_headers()
                    while not site.stopped.is_set():
                        self.wfile.write(b"\0" * (1 << 16))
                elif self.path in ("/endless", "/slow"):
                    self._reply(405, b"")
                elif self.path == "/lying":
                    self._reply(200, b"", **{"Content-Length": "100", "Accept-Ranges": "bytes"})
                else:
                    self._reply(200, content, **{"Set-Cookie": "session=1"})

            do_HEAD = do_GET  # noqa: N815 - as the base class calls it

            def _reply(self, status: int, body: bytes, **headers: str) -> None:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b"" if self.command == "HEAD" else body)

            def log_message(self, *_: object) -> None:
                pass

        self.stopped = threading.Event()
        self.server = ThreadingHTTPServer((address, 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients hang up
        self.port = self.server.server_port
        self.url = f"http://{address}:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@contextmanager
def serving(**options: Any) -> Iterator[Site]:
    site = Site(**options)
    yield site
    site.stopped.set()
    site.server.shutdown()
    site.server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_of_this_machine_or_a_private_network_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("function", [read_bytes, stat_file, open_binary, open_cached_copy])
@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "017700000001", "127.1", "[::ffff:127.0.0.1]", "0.0.0.0"],
)
def test_no_way_to_write_an_address_of_this_machine_reaches_it(site: Site, host: str, function: Any) -> None:
    url = f"http://{host}:{site.port}/x"
    with pytest.raises((SourceError, RefusedUri, OSError)) as caught:
        function(admit(ForeignUri(url)))
    assert "private network" in str(caught.value) or "canonical" in str(caught.value) or "chained" in str(caught.value)
    assert site.requests == []
    with access.allow(private=True):
        if host in ("127.0.0.1", "localhost"):
            assert read_bytes(url) == b"content"
    with pytest.raises(SourceError, match="private network"):
        read_bytes(f"http://127.0.0.1:{site.port}/x")


def test_what_is_checked_is_what_is_connected_to(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that resolves to a public address first and to this machine then is resolved once."""
    answers = iter(["8.8.8.8", "127.0.0.1", "127.0.0.1"])
    real, tried = socket.getaddrinfo, list[str]()

    def resolve(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        return real(next(answers) if host == "rebinding.example" else host, port, *args, **options)

    def connect(self: socket.socket, address: Any) -> None:
        tried.append(address[0])
        raise ConnectionRefusedError("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises((SourceError, OSError)):
        read_bytes(f"http://rebinding.example:{site.port}/x")
    assert "127.0.0.1" not in tried
    assert site.requests == []


def test_a_redirect_reaches_no_other_private_address_and_no_other_protocol(site: Site, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    access.trust(site.url)
    site.redirects |= {"/near": f"{site.url}/x", "/hop": f"{site.url}/to"}
    assert read_bytes(f"{site.url}/near") == b"content"
    with serving() as other:
        ports = f":{other.port}/x"
        for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0.0.0.0"):
            site.redirects["/to"] = f"http://{host}{ports}"
            for path in ("/to", "/hop"):
                with pytest.raises((SourceError, OSError), match=r"private network|canonical"):
                    read_bytes(f"{site.url}{path}")
        assert other.requests == []
    for target in (f"file://{tmp_path}/secret", "ftp://127.0.0.1/x", "s3://bucket/x", "gopher://127.0.0.1:70/"):
        site.redirects["/to"] = target
        with pytest.raises((SourceError, OSError)) as caught:
            read_bytes(f"{site.url}/to")
        assert "\n" not in str(caught.value)


def test_http_sends_no_ambient_credentials(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setitem(fsspec.config.conf, "http", {"headers": {"Authorization": "Basic c2VjcmV0"}})
    access.trust(site.url)
    read_bytes(f"{site.url}/typed")
    assert any(headers.get("Authorization") == "Basic c2VjcmV0" for _, headers in site.requests)
    access.restore(access.GUARDED)
    site.requests.clear()
    with access.allow(private=True):
        for _ in range(2):
            read_bytes(f"{site.url}/data")
    assert {path for path, _ in site.requests} == {"/data"}
    for _, headers in site.requests:
        assert not {"authorization", "cookie", "proxy-authorization"} & set(map(str.lower, headers))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/status/404", "its server says that there is no such file"),
        ("/status/403", "403"),
        ("/status/500", "500"),
        ("/endless", "more than 1,000,000 bytes of a file fetched by HTTP, where at most"),
        ("/lying", "more than 1,000,000 bytes of a file fetched by HTTP, where at most|bytes"),
        ("/slow", "no complete answer within 2 s"),
    ],
)
def test_a_server_that_misbehaves_costs_its_own_row_and_says_why(
    site: Site, path: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "m.csv").write_text(f"path\n{site.url}{path}\n{write_tone(tmp_path / 'a.wav', 300)}\n")
    with access.allow(private=True), limits(http_bytes=1_000_000, http_seconds=2):
        result = index([tmp_path / "m.csv"], tmp_path / "db", ToneEncoder())
    assert (result.indexed, result.failed) == (1, 1)
    (failure,) = failures(Database(tmp_path / "db"))
    assert re.search(message, failure["reason"]), failure["reason"]
    assert "\n" not in failure["reason"]


def test_typed_hosts_are_reached_and_the_rows_of_a_manifest_on_them(site: Site, tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    tone = write_tone(tmp_path / "a.wav", 300).read_bytes()
    with serving(content=tone) as sounds, serving(content=b"path,text\nnear.wav,\n,rain\n") as manifests:
        (tmp_path / "m.csv").write_text(f"path\n{sounds.url}/x.wav\n")
        local = ["index", str(tmp_path / "m.csv"), "--db", str(tmp_path / "db"), "--json"]
        for more, indexed in ([], 0), (["--trust", f"{sounds.url}"], 1), (["--allow-private"], 1):
            for name in (tmp_path / "db").glob("*"):
                shutil.rmtree(name) if name.is_dir() else name.unlink()
            access.restore(access.GUARDED)
            outcome = CliRunner().invoke(main, [*local, *more])
            assert f'"indexed": {indexed}' in outcome.stdout, outcome.output
        access.restore(access.GUARDED)
        result = index([f"{manifests.url}/m.csv", f"{sounds.url}/y.wav"], tmp_path / "db2", ToneEncoder())
        assert (result.indexed, result.failed) == (2, 1)  # near.wav is a manifest, not a sound


def test_a_protocol_is_allowed_for_data_by_its_user(tmp_path: Path) -> None:
    uri = ForeignUri("sftp://host/a.wav")
    with pytest.raises(RefusedUri, match="those that you allow"):
        admit(uri)
    with access.allow(protocols=["sftp"]):
        assert admit(uri) == "sftp://host/a.wav"
        with pytest.raises(RefusedUri, match="chained"):
            admit(ForeignUri("sftp://host/a.wav::http://h/x"))
    with pytest.raises(RefusedUri):
        admit(uri)
    for protocol in ("reference", "filecache://", "ZIP"):
        with pytest.raises(ConfigError, match="hold others"), access.allow(protocols=[protocol]):
            pass
