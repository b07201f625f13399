"""Stores that fail: a proxy in front of one that works, and one of this process."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from fsspec.implementations.memory import MemoryFileSystem

Answer = tuple[int, bytes]
Rule = Callable[[str, str], Answer | None]
"""From the method and the path with its query, decoded, to the answer; None: the store's own."""

_ERROR = "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{}</Code><Message>{}</Message></Error>"
FORBIDDEN: Answer = (403, _ERROR.format("AccessDenied", "Access Denied").encode())
UNAVAILABLE: Answer = (503, _ERROR.format("ServiceUnavailable", "Please try later").encode())


class Proxy:
    """A proxy between a store and its clients.

    `rule` chooses the failures, `requests` counts the requests, `headers` keeps those of each.
    """

    def __init__(self, store: str):
        self.rule: Rule = lambda method, path: None
        self.requests = 0
        self.headers: list[dict[str, str]] = []
        self._store = store
        self._counting = threading.Lock()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer a request by the rule, or hand it on."""
        with self._counting:
            self.requests += 1
            self.headers.append(dict(handler.headers))
        size = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(size) if size else None
        failure = self.rule(handler.command, unquote(handler.path))
        if failure is not None:
            status, content = failure
            handler.send_response(status)
            headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(content)))]
        else:
            connection = http.client.HTTPConnection(urlsplit(self._store).netloc, timeout=30)
            connection.request(handler.command, handler.path, body, dict(handler.headers))
            response = connection.getresponse()
            content = response.read()
            handler.send_response(response.status)
            left_out = ("transfer-encoding", "connection", "date", "server")
            headers = [(name, value) for name, value in response.getheaders() if name.lower() not in left_out]
            connection.close()
            if handler.command != "HEAD" and not any(name.lower() == "content-length" for name, _ in headers):
                headers.append(("Content-Length", str(len(content))))
        for name, value in headers:
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(content)


@contextmanager
def proxied(store: str) -> Iterator[tuple[Proxy, str]]:
    """Serve a proxy of the store at this address; yield it and its own address."""
    proxy = Proxy(store)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            proxy.answer(self)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815 - as the base class calls them

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Fragile(MemoryFileSystem):
    """A store of this process whose answers for some paths are errors of any kind."""

    protocol = "fragile"
    store: dict[str, Any] = {}  # noqa: RUF012 - as its base has it
    pseudo_dirs = [""]  # noqa: RUF012
    failing: dict[str, Exception] = {}  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("fragile://", "memory://"))  # type: ignore[no-any-return]

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        if error := self.failing.get(self._strip_protocol(path)):
            raise error
        return super().ls(path, detail, **options)

    def info(self, path: str, **options: Any) -> Any:
        if error := self.failing.get(self._strip_protocol(path)):
            raise error
        return super().info(path, **options)
