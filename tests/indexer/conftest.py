from __future__ import annotations

import os
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.helpers import write_tone
from tests.stores import Fragile, Proxy, proxied

NAMES = ("ab/a.wav", "ab/one/b.wav", "ab/one/c.wav", "ab/two/d.wav")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A store that speaks S3, on this machine, and fsspec's file system for it."""
    server_module = pytest.importorskip("moto.server", reason="needs moto[server]")
    pytest.importorskip("s3fs", reason="needs s3fs")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    address = f"http://127.0.0.1:{port}"
    # What a server of this process held before it holds too, until its caches are cleared.
    urllib.request.urlopen(urllib.request.Request(f"{address}/moto-api/reset", method="POST")).close()
    settings = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**settings, "AWS_ENDPOINT_URL": address}.items():
        monkeypatch.setenv(name, value)
    filesystem = fsspec.filesystem("s3", skip_instance_cache=True)
    filesystem.mkdir("sounds")
    try:
        yield filesystem
    finally:
        server.stop()
        fsspec.filesystem("s3").clear_instance_cache()


@pytest.fixture
def proxy(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the store of `bucket`, which everybody is sent through from now on."""
    with proxied(os.environ["AWS_ENDPOINT_URL"]) as (proxy, address):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # it would ask again for minutes
        fsspec.filesystem("s3").clear_instance_cache()
        yield proxy
        fsspec.filesystem("s3").clear_instance_cache()


@pytest.fixture
def sounds(proxy: Proxy, bucket: Any, tmp_path: Path) -> Any:
    """The store behind the proxy, with four recordings."""
    for number, name in enumerate(NAMES):
        bucket.put(str(write_tone(tmp_path / "in" / name, 300 * (number + 1), duration_s=0.3)), f"sounds/{name}")
    return bucket


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[Any]:
    """A store of this process with the same recordings."""
    fsspec.register_implementation("fragile", Fragile, clobber=True)
    filesystem = fsspec.filesystem("fragile")
    for number, name in enumerate(NAMES):
        wav = write_tone(tmp_path / "in" / name, 300 * (number + 1), duration_s=0.3)
        filesystem.pipe(f"/sounds/{name}", wav.read_bytes())
    yield filesystem
    Fragile.store.clear()
    Fragile.failing.clear()


@pytest.fixture
def many(tmp_path: Path) -> Path:
    for number in range(100):
        write_tone(tmp_path / "many" / f"{number:03}.wav", 100 + 50 * number, duration_s=0.1)
    return tmp_path / "many"
