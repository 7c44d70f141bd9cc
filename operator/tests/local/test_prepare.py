"""Preparing several services: a slow download delays no other service, an error that nobody foresaw ends no `up`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from machine_world import Here, manifest, until  # type: ignore[import-not-found]

from llmservice_api.manifest import load_manifests
from llmservice_cli import models
from llmservice_cli.local import prepare
from llmservice_cli.local.order import Order
from llmservice_cli.local.prepare import Preparation
from llmservice_cli.places import Places
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.engines.llamacpp.install.check import tiny_model
from llmservice_runtime.sources.progress import Silent


@pytest.fixture
def gate() -> threading.Event:
    return threading.Event()


@pytest.fixture
def slow_url(gate: threading.Event) -> Iterator[str]:
    """A GGUF whose header comes at once and whose end comes when the gate opens."""
    model = tiny_model()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def do_HEAD(self) -> None:
            self._answer(0, len(model), 200)

        def do_GET(self) -> None:
            first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
            end = min(len(model), int(last) + 1 if last else len(model))
            if "Range" not in self.headers or not last:
                gate.wait(30)
            self._answer(int(first), end, 206 if "Range" in self.headers else 200)
            self.wfile.write(model[int(first) : end])

        def _answer(self, start: int, end: int, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(end - start))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", '"one"')
            if status == 206:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(model)}")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/slow.gguf"
    gate.set()
    server.shutdown()
    server.server_close()


def test_a_slow_download_delays_no_other_service(here: Here, slow_url: str, gate: threading.Event) -> None:
    here.env["LLMSERVICE_CACHE_DIR"] = str(here.folder / "cache")
    file = here.write(manifest("slow", uri=slow_url), manifest("quick"))
    with here.foreground("-f", file, "--port", "0"):
        here.ready("quick")
        assert here.ready("slow", 0)["settled"] is False
        gate.set()
        here.ready("slow")


@pytest.mark.parametrize("detach", [(), ("--detach",)])
def test_an_interrupt_does_not_wait_for_a_download(here: Here, slow_url: str, detach: tuple[str, ...]) -> None:
    here.env["LLMSERVICE_CACHE_DIR"] = str(here.folder / "cache")
    with here.foreground("-f", here.write(manifest("slow", uri=slow_url)), "--port", "0", *detach) as up:
        assert up.stdout is not None
        while "slow.gguf: downloading" not in up.stdout.readline():
            pass
        up.send_signal(signal.SIGINT)
        said, _ = up.communicate(timeout=20)  # the server would hold the download for 30 s
        assert up.returncode == (130 if detach else 0) and "Traceback" not in said
    until(lambda: not here.pids())


def test_an_unforeseen_error_fails_its_service_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.gguf").write_bytes(tiny_model())
    (tmp_path / "x.yaml").write_text("\n---\n".join((manifest("odd"), manifest("even"))))
    fetch = models.fetch_model
    calls: list[str] = []

    def odd(*args: object) -> Path:
        calls.append("")
        if len(calls) == 1:
            raise RuntimeError("surprise")
        return fetch(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(prepare, "fetch_model", odd)
    preparation = Preparation(Places(tmp_path / "s", tmp_path / "c", None), lambda _: None, Silent)
    orders: dict[str, Order] = {}
    for one in load_manifests([tmp_path / "x.yaml"]):
        preparation.prepare(one, lambda order: orders.update({order.service.metadata.name: order})).result(10)
    failure = orders["odd"].failure
    assert failure is not None and failure.failure is FailureClass.CRASHED and "surprise" in failure.message
    assert orders["even"].failure is None
