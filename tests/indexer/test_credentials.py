"""Whose credentials are sent to an object store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clara_search.errors import SourceError
from clara_search.files.network import access
from clara_search.files.network.copies import open_cached_copy
from clara_search.files.paths import read_bytes, stat_file
from tests.helpers import write_tone
from tests.stores import Proxy


def authorizations(proxy: Proxy) -> list[bool]:
    """Return for each request whether it was signed, and forget them."""
    signed = ["Authorization" in headers for headers in proxy.headers]
    proxy.headers.clear()
    return signed


def test_only_the_bucket_that_is_typed_is_read_with_the_users_keys(
    bucket: Any, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.mkdir("others")
    for name in ("sounds", "others"):
        bucket.put(str(write_tone(tmp_path / "a.wav", 300)), f"{name}/a.wav", ACL="public-read")
    monkeypatch.setattr(access, "_state", access.GUARDED)
    access.trust("s3://sounds/m.csv")
    proxy.headers.clear()
    assert read_bytes("s3://sounds/a.wav").startswith(b"RIFF")
    assert set(authorizations(proxy)) == {True}
    assert read_bytes("s3://others/a.wav").startswith(b"RIFF")
    assert stat_file("s3://others/a.wav").size > 0
    assert open_cached_copy("s3://others/a.wav").read(4) == b"RIFF"
    assert set(authorizations(proxy)) == {False}
    proxy.rule = lambda method, path: (403, b"")
    with pytest.raises(PermissionError, match="without your credentials, as data names it: give `trust` s3://others"):
        read_bytes("s3://others/a.wav")
    for name in ("s3://arn:aws:s3:us-east-1:1:accesspoint/x/a.wav", "s3://KEY:SECRET@others/a.wav"):
        with pytest.raises(SourceError, match="names no bucket"):
            read_bytes(name)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "secret")
    with pytest.raises(SourceError, match="would be read with your keys of Azure"):
        read_bytes("az://container/a.wav")
