"""URLs are stored, shown and compared without what gives access to them."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from clara_search.commands.main import main
from clara_search.files.redact import redact, without_credentials
from clara_search.store.database import Database
from indexer.ledger.failures import stored_ledger
from indexer.pipeline import index
from tests.helpers import ToneEncoder, write_tone

AMAZON = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F20260101%2Fus&X-Amz-Signature=5eC&X-Amz-Expires=60"


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://user:pw@host:8080/a@b.wav", "https://host:8080/a@b.wav"),
        ("https://token@host/a.wav", "https://host/a.wav"),
        ("s3://AKIA:se/cr+et@bucket/a.wav", "s3://bucket/a.wav"),
        ("s3://bucket/a@b:c.wav", "s3://bucket/a@b:c.wav"),
        ("sftp://me:pw@host/a.wav", "sftp://host/a.wav"),
        ("abfs://container@account.dfs.core.windows.net/a.wav", "abfs://container@account.dfs.core.windows.net/a.wav"),
        (f"https://b.s3.amazonaws.com/a.wav?versionId=3&{AMAZON}", "https://b.s3.amazonaws.com/a.wav?versionId=3"),
        (f"https://h/m.csv?{AMAZON}#L3", "https://h/m.csv#L3"),
        ("https://h/a?AWSAccessKeyId=A&Signature=b%3D&Expires=1&id=7", "https://h/a?id=7"),
        ("https://h/a?sv=2024&se=2026&sr=b&sp=r&sig=x%3D", "https://h/a"),
        ("https://h/a?Policy=p&Signature=s&Key-Pair-Id=K&x=1", "https://h/a?x=1"),
        ("https://h/a?GoogleAccessId=g&Expires=1&Signature=s", "https://h/a"),
        ("https://h/a?st=1&expires=never&id=%20b", "https://h/a?st=1&expires=never&id=%20b"),
        ("https://h/a?access_token=x&b=1", "https://h/a?access_token=~2d711642&b=1"),
        ("https://h/a?%73ig=x&b=1", "https://h/a?b=1"),
        ("tar://d/a.wav::https://u:p@h/s.tar?sig=1", "tar://d/a.wav::https://h/s.tar"),
        ("/home/user:pw@host/a.wav?sig=1", "/home/user:pw@host/a.wav?sig=1"),
        ("https://h", "https://h"),
    ],
)
def test_what_gives_access_goes_and_all_else_stays(url: str, public: str) -> None:
    assert without_credentials(url) == public
    assert without_credentials(public) == public
    assert redact(f"403, url='{url}'") == (f"403, url='{public}'" if "://" in url else f"403, url='{url}'")


def test_two_recordings_that_only_a_token_tells_apart_remain_two() -> None:
    assert without_credentials("https://h/get?token=a") != without_credentials("https://h/get?token=b")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[http.server.ThreadingHTTPServer]:
    """Serves a folder to whoever has a signature; `signature` is the one that is good now."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Guarded(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def send_head(self) -> Any:
            if f"X-Amz-Signature={self.server.signature}" not in self.path:  # type: ignore[attr-defined]
                return self.send_error(403)
            return super().send_head()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Guarded)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_url_signed_anew_is_the_same_recording_and_no_signature_is_kept(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clara_search.models.registry.load_encoder", lambda *_, **__: ToneEncoder())
    served, url = tmp_path / "served", f"http://127.0.0.1:{server.server_port}"
    for name in ("a", "b"):
        write_tone(served / f"{name}.wav", 440)
    database = Database(tmp_path / "db", create=True)
    encoder = ToneEncoder()
    for number, signature in enumerate(("sEcReT1", "sEcReT2")):
        server.signature = signature
        query = f"?X-Amz-Signature={signature}"
        (served / "m.csv").write_text(f"path\n{url}/b.wav{query}\n{url}/bad.wav{query}\n")
        summary = index([f"{url}/a.wav{query}", f"{url}/m.csv{query}"], database, encoder, retry_failed=True)
        assert (summary.indexed, summary.unchanged, summary.failed) == ((2, 0, 1), (0, 2, 1))[number]
        assert summary.rows == 2
    assert sorted(database.table().scan(["uri"])["uri"].to_pylist()) == [f"{url}/a.wav", f"{url}/b.wav"]
    ledger = stored_ledger(database, "corpus")
    assert ledger is not None
    stored = json.dumps(
        [*ledger.scan(ledger.schema.names).to_pylist(), *database.table().scan(["uri"]).to_pylist()], default=str
    )
    assert f"{url}/bad.wav" in stored
    assert "sEcReT" not in stored
    result = CliRunner().invoke(main, ["index", f"{url}/m.csv?X-Amz-Signature=sEcReT3", "--db", str(database.path)])
    assert result.exit_code == 1
    assert "sEcReT" not in result.output
    for file in (path for path in database.path.rglob("*") if path.is_file()):
        assert b"sEcReT" not in file.read_bytes(), file
