"""A claim or a node's directory fills up: the program that fetches makes room, and takes nothing that is used.

The real program, as its Job runs it, on a disk that holds one model of two.
"""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmservice_runtime.contract.in_use import held, mark_of
from llmservice_runtime.sources.kept import kept_models, want

DEMO = Path(__file__).parents[2] / "demo" / "model" / "demo-Q4_K_M.gguf"
MIB = 1 << 20
SIZE = 30 * MIB
DISK = 110 * MIB
"""64 MiB stay free beside a download: with one model there, another does not fit."""


class Hub(http.server.SimpleHTTPRequestHandler):
    """The demo model under every name, made larger; each name is a model."""

    def do_GET(self) -> None:
        name = self.path.strip("/")
        body = DEMO.read_bytes() + bytes(SIZE - DEMO.stat().st_size)
        first, last = 0, len(body) - 1
        if asked := self.headers.get("Range"):
            start, _, end = asked.removeprefix("bytes=").partition("-")
            first, last = int(start), min(int(end or last), last)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(body)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{name}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[first : last + 1])

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def hub() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no small file systems can be mounted here: {mounted.stderr.decode()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def prepare(uri: str, disk: Path, *more: str) -> tuple[int, str]:
    """Exit code, and the report or the reason."""
    report = disk.parent / "report"
    report.unlink(missing_ok=True)
    words = ["prepare", f"--uri={uri}", f"--cache={disk}", f"--report={report}", "--allow-private", "--fetch", *more]
    done = subprocess.run(
        [Path(sys.executable).with_name("llmservice-runtime"), *words], capture_output=True, text=True, timeout=120,
        env={**os.environ, "NO_PROXY": "*"},
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, report.read_text() if report.exists() else done.stderr


def there(disk: Path) -> list[str]:
    return sorted(kept.uri.rpartition("/")[2] for kept in kept_models(disk) if kept.whole)


def unused_for_an_hour(disk: Path) -> None:
    for kept in kept_models(disk):
        long_ago = mark_of(kept.folder).stat().st_mtime - 3600
        os.utime(mark_of(kept.folder), (long_ago, long_ago))


def reason(said: str) -> str:
    record = json.loads(said)
    assert record["failure"] == "DiskFull", record
    return str(record["message"])


def test_a_full_cache_is_emptied_of_what_nobody_uses_and_of_nothing_else(hub: str, disk: Path) -> None:
    mine = ("--make-room", "--service=apps/mine")
    assert prepare(f"{hub}/a.gguf", disk, *mine)[0] == 0

    code, said = prepare(f"{hub}/b.gguf", disk, *mine)  # a is fresh: it may be about to start
    assert code == 1 and "Models that stay there: 1 used in the last 10 minutes." in reason(said)

    unused_for_an_hour(disk)
    code, said = prepare(f"{hub}/b.gguf", disk, "--service=apps/mine")  # cache.prune: Never
    assert code == 1 and "stay" not in reason(said)
    assert there(disk) == ["a.gguf"]

    assert prepare(f"{hub}/b.gguf", disk, *mine)[0] == 0
    assert there(disk) == ["b.gguf"]

    unused_for_an_hour(disk)
    (model,) = kept_models(disk)
    with held(model.folder):  # as a replica holds it
        unused_for_an_hour(disk)
        code, said = prepare(f"{hub}/c.gguf", disk, *mine)
    assert code == 1 and "Models that stay there: 1 in use." in reason(said)
    assert there(disk) == ["b.gguf"] and (model.folder / "b.gguf").stat().st_size == SIZE

    unused_for_an_hour(disk)
    want(model.folder, "apps/other")  # which has no replica at the moment
    code, said = prepare(f"{hub}/c.gguf", disk, *mine)
    assert code == 1 and "Models that stay there: 1 of another service." in reason(said)
