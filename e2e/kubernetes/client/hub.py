"""A web server with models; each path is a way to fail. It runs in the runtime's image, which has the demo model."""

from __future__ import annotations

import json
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODEL = {file.name: file.read_bytes() for file in Path("/models/demo").iterdir()}
DEMO = next(content for name, content in MODEL.items() if name.endswith("Q4_K_M.gguf"))
BLOCKS = b"llama.block_count"
COUNT = DEMO.index(BLOCKS) + len(BLOCKS) + 4
"""Where the number of layers stands: after its name and its type."""
FILES = {
    "/demo.gguf": DEMO,
    "/half.gguf": DEMO[: len(DEMO) // 2],
    "/garbage.gguf": DEMO[:4096] + b"\xff" * (len(DEMO) - 4096),
    "/layers.gguf": DEMO[:COUNT] + bytes([DEMO[COUNT] + 1]) + DEMO[COUNT + 1 :],
    "/large.gguf": DEMO + bytes(48 << 20),
    "/another.gguf": DEMO + bytes(48 << 20),
}
COMMIT = "c0ffee" + "0" * 34
LISTED = {"sha": COMMIT, "siblings": [{"rfilename": name, "size": len(content)} for name, content in MODEL.items()]}
FILES |= {f"/api/models/demo/demo/revision/{name}": json.dumps(LISTED).encode() for name in ("main", COMMIT)}
FILES |= {f"/demo/demo/resolve/{COMMIT}/{name}": content for name, content in MODEL.items()}
"""hf://demo/demo, the whole folder, where HF_ENDPOINT is this server."""
GIVEN = Path("/given")
"""What a test put there; with the demo's GGUF it is hf://demo/given too."""
LISTING = {f"/api/models/demo/given/revision/{name}" for name in ("main", COMMIT)}
RESOLVED = f"/demo/given/resolve/{COMMIT}/"
REFUSALS = {"/gated.gguf": 403, "/private.gguf": 401, "/broken.gguf": 500}


class Hub(BaseHTTPRequestHandler):
    """GET and HEAD with single byte ranges."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        code, body, headers = self.found()
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def found(self) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers of the path that is asked for."""
        path = self.path.partition("?")[0]
        name = path.removeprefix(RESOLVED if path.startswith(RESOLVED) else "/")
        body = listing() if path in LISTING else FILES.get(path) or given(name)
        if body is None:
            return REFUSALS.get(path, 404), b"", {}
        headers = {"Accept-Ranges": "bytes", "ETag": f'"{len(body)}"'}
        if not (asked := self.headers.get("Range")):
            return 200, body, headers
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or len(body)), len(body) - 1)
        return 206, body[start : end + 1], {**headers, "Content-Range": f"bytes {start}-{end}/{len(body)}"}


def listing() -> bytes:
    """What hf://demo/given holds now."""
    names = [*(name for name in MODEL if name.endswith(".gguf")), *(file.name for file in GIVEN.iterdir())]
    siblings = [{"rfilename": name, "size": len(given(name) or b"")} for name in names]
    return json.dumps({"sha": COMMIT, "siblings": siblings}).encode()


@cache
def given(name: str) -> bytes | None:
    """A file of the test's, or of the demo model."""
    if name in MODEL:
        return MODEL[name]
    return (GIVEN / name).read_bytes() if name and (GIVEN / name).is_file() else None


ThreadingHTTPServer(("", 8000), Hub).serve_forever()
