"""Models of the hub: the real client against a small server that speaks the hub's protocol."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import huggingface_hub.constants
import huggingface_hub.hf_api
import numpy as np
import pytest
from click.testing import CliRunner

from clara_search.commands.main import main
from clara_search.errors import UnknownModel
from clara_search.models import hub
from clara_search.models import registry as catalog
from clara_search.models.registry import DEFAULT_MODEL, load_encoder

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = catalog.WEIGHTS / DEFAULT_MODEL


class Hub(BaseHTTPRequestHandler):
    """Serves the bundled model as `lab/small`, at its one commit, and takes what is pushed to `lab/mine`."""

    requests: list[str] = []  # noqa: RUF012 - emptied by the fixture
    pushed: dict[str, bytes] = {}  # noqa: RUF012 - emptied by the fixture

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_POST(self) -> None:
        path, given = urlsplit(self.path).path, self.rfile.read(int(self.headers["Content-Length"]))
        self.requests.append(f"POST {path}")
        if path == "/api/repos/create":
            self._send(
                json.dumps({"url": "https://huggingface.co/lab/mine", "id": "lab/mine", "name": "lab/mine"}).encode(),
                True,
            )
        elif path == "/api/validate-yaml":
            self._send(b'{"errors": [], "warnings": []}', True)
        elif path == "/api/models/lab/mine/preupload/main":
            names = [file["path"] for file in json.loads(given)["files"]]
            modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            self._send(json.dumps({"files": modes}).encode(), True)
        elif path == "/api/models/lab/mine/commit/main":
            for line in map(json.loads, given.splitlines()):
                if line["key"] == "file":
                    self.pushed[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            made = {"commitUrl": f"https://huggingface.co/lab/mine/commit/{COMMIT}", "commitOid": COMMIT}
            self._send(json.dumps(made).encode(), True)
        else:
            self._refuse()

    def _refuse(self) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", "RevisionNotFound" if "/lab/small/" in self.path else "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.requests.append(f"{self.command} {path}")
        files = sorted(MODEL.iterdir())
        if path.startswith("/api/models/lab/small/tree/"):
            tree = [{"type": "file", "path": x.name, "size": x.stat().st_size, "oid": _oid(x)} for x in files]
            self._send(json.dumps(tree).encode(), body)
        elif path in ("/api/models/lab/small", f"/api/models/lab/small/revision/{COMMIT}") or path.startswith(
            ("/api/models/lab/small/revision/main", "/api/models/lab/small/revision/v1")
        ):
            siblings = [{"rfilename": x.name, "size": x.stat().st_size, "blobId": _oid(x)} for x in files]
            facts = {"_id": "1", "id": "lab/small", "sha": COMMIT, "private": False, "tags": [], "siblings": siblings}
            self._send(json.dumps(facts).encode(), body)
        elif path.startswith("/lab/small/resolve/") and (MODEL / path.rsplit("/", 1)[1]).is_file():
            file = MODEL / path.rsplit("/", 1)[1]
            self._send(file.read_bytes(), body, ETag=f'"{_oid(file)}"', **{"X-Repo-Commit": COMMIT})
        else:
            self._refuse()

    def _send(self, content: bytes, body: bool, **headers: str) -> None:
        self.send_response(200)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def _oid(path: Path) -> str:
    return hashlib.sha1(path.name.encode()).hexdigest()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Hub.requests.clear()
    Hub.pushed.clear()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    _point_to(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    server.server_close()


def _point_to(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    monkeypatch.setattr(
        huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", address)


@pytest.mark.parametrize("name", ["lab/small", "lab/small@v1"])
def test_a_model_of_the_hub_is_downloaded_once_and_is_the_model(server: ThreadingHTTPServer, name: str) -> None:
    encoder = load_encoder(name)
    assert encoder.name == name
    bundled = load_encoder(DEFAULT_MODEL)
    assert encoder.fingerprint == bundled.fingerprint
    np.testing.assert_array_equal(encoder.encode_text(["rain"]), bundled.encode_text(["rain"]))
    Hub.requests.clear()
    load_encoder(name)
    assert not [request for request in Hub.requests if request.startswith("GET /lab/small/resolve")]


@pytest.mark.slow
def test_a_downloaded_model_loads_without_a_network(
    server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_encoder("lab/small")
    server.shutdown()
    _point_to(monkeypatch, "http://127.0.0.1:9")
    assert load_encoder("lab/small").name == "lab/small"


def test_without_a_network_the_error_says_what_to_do(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _point_to(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(UnknownModel, match=r"'lab/small@v1'.*`hf download lab/small --revision v1 --local-dir DIR`"):
        load_encoder("lab/small@v1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UnknownModel, match=r"`hf download lab/other --local-dir DIR`"):
        load_encoder("lab/other")


def test_a_name_that_is_too_long_for_a_folder_is_no_model() -> None:
    for name in ("x" * 5000, ""):
        with pytest.raises(UnknownModel, match="no model"):
            load_encoder(name)


@pytest.mark.parametrize("name", ["lab/none", "lab/small@v9"])
def test_a_model_that_the_hub_does_not_have_is_named(server: ThreadingHTTPServer, name: str) -> None:
    with pytest.raises(UnknownModel, match=f"the hub has no model '{name}'"):
        load_encoder(name)


@pytest.mark.slow
def test_a_push_makes_the_repository_and_uploads_every_file(
    server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    files, others = hub.list_files_to_push(MODEL)
    address = hub.push_model(files, "lab/mine", private=True)
    assert "lab/mine" in address
    assert Hub.pushed == {file.name: file.read_bytes() for file in MODEL.iterdir()}
    assert not others


def test_a_push_shows_what_it_uploads_and_uploads_nothing_else(
    server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    model = tmp_path / "model"
    shutil.copytree(MODEL, model)
    for name in ("credentials.json", ".secret/key.json", "sub/config.json", "notes.txt", "old.safetensors", ".env"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text("secret")
    (model / "more.json").symlink_to("/etc/passwd")
    result = CliRunner().invoke(main, ["models", "push", str(model), "lab/mine"])
    assert result.exit_code == 0, result.output
    size = (MODEL / "model.safetensors").stat().st_size
    assert f"To upload: model.safetensors ({size:,} bytes)" in result.stderr
    assert "Left out: .env, .secret, credentials.json, more.json, notes.txt, old.safetensors, sub\n" in result.stderr
    assert Hub.pushed == {file.name: file.read_bytes() for file in MODEL.iterdir()}


@pytest.mark.parametrize("name", ["README.md", "config.json", "vocab.json"])
def test_a_link_is_not_pushed(server: ThreadingHTTPServer, tmp_path: Path, name: str) -> None:
    model = tmp_path / "model"
    shutil.copytree(MODEL, model)
    (tmp_path / "letter").write_text(((model / name) if (model / name).exists() else MODEL / "config.json").read_text())
    (model / name).unlink(missing_ok=True)
    (model / name).symlink_to("../letter")
    result = CliRunner().invoke(main, ["models", "push", str(model), "lab/mine"])
    assert result.exit_code == 1
    assert (
        result.output == f"Error: {model / name}: not a regular file: replace it by a copy, as links are not uploaded\n"
    )
    assert not Hub.pushed


def test_a_push_that_cannot_be_made_says_why(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _point_to(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(UnknownModel, match=r"lab/mine: cannot be uploaded .*hf auth login"):
        hub.push_model(hub.list_files_to_push(MODEL)[0], "lab/mine")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("laion/clap-htsat-unfused", True),
        ("lab/small@v1.0", True),
        ("lab/small@refs/pr/3", True),
        ("clara-small", False),
        ("./models/mine", False),
        ("/models/mine", False),
        ("a/b/c", False),
        ("lab/small@..", False),
        ("lab/small@../../main", False),
        ("lab/small@refs/../../../x", False),
        ("lab/small@/etc", False),
        ("lab/small@main/", False),
        ("lab/..", False),
    ],
)
def test_an_id_is_an_organisation_and_a_name(name: str, expected: bool) -> None:
    assert hub.is_hub_id(name) is expected
