"""A Hugging Face hub on loopback with one repository; a download can be held up half way."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" + "0" * 34
HELD = 12 << 20
"""Bytes that come of a file before it is held up; they are written in pieces of 10 MiB."""


class SmallHub:
    """`hf://acme/demo` with these files. While `go` is not set, whole files stop after HELD bytes; `asked` has the
    first byte that was asked for of each download."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.go = threading.Event()
        self.go.set()
        self.held = threading.Event()
        self.asked: list[int] = []
        self.url = ""
        self._files = {f"/acme/demo/resolve/{COMMIT}/{name}": content for name, content in files.items()}
        listed = {"sha": COMMIT, "siblings": [{"rfilename": n, "size": len(c)} for n, c in files.items()]}
        for revision in ("main", COMMIT):
            self._files[f"/api/models/acme/demo/revision/{revision}"] = json.dumps(listed).encode()

    @contextmanager
    def open(self) -> Iterator[SmallHub]:
        """Answer, in a thread of its own."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.go.set()
            server.shutdown()
            server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """GET and HEAD, with single ranges."""
        body = self._files.get(request.path.partition("?")[0])
        if body is None:
            request.send_response(404)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        first, last = 0, len(body) - 1
        if asked := request.headers.get("Range"):
            start, _, end = asked.removeprefix("bytes=").partition("-")
            first, last = int(start), min(int(end or last), last)
        request.send_response(206 if asked else 200)
        request.send_header("Content-Length", str(last + 1 - first))
        request.send_header("ETag", '"same"')
        request.send_header("Accept-Ranges", "bytes")
        if asked:
            request.send_header("Content-Range", f"bytes {first}-{last}/{len(body)}")
        request.end_headers()
        if request.command == "GET":
            self._send(request, body[first : last + 1], first, whole=last == len(body) - 1)

    def _send(self, request: BaseHTTPRequestHandler, body: bytes, first: int, *, whole: bool) -> None:
        if not whole or request.path.startswith("/api/"):
            request.wfile.write(body)
            return
        self.asked.append(first)
        if self.go.is_set():
            request.wfile.write(body)
            return
        request.wfile.write(body[:HELD])
        request.wfile.flush()
        self.held.set()
        self.go.wait()
        request.close_connection = True
