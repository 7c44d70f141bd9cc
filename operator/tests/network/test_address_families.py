"""A replica and the operator in a pod that has IPv6 alone, and in one that has IPv4 alone, reached from another."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from two_pods import Cable  # type: ignore[import-not-found]

from llmservice_runtime.contract.listening import EVERY, dialled, listening

MODEL = Path(__file__).resolve().parents[3] / "runtime/demo/model/demo-Q4_K_M.gguf"
SETTINGS = {
    "engine": "LlamaCpp",
    "model_path": str(MODEL),
    "model_name": "demo",
    "host": EVERY,
    "context_tokens": 512,
    "threads": 1,
    "drain_seconds": 1,
}
ASK = """
import sys, urllib.error, urllib.request
url, body = sys.argv[1], sys.argv[2].encode() or None
request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    with opener.open(request, timeout=30) as answer:
        print(answer.status, answer.read().decode())
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
except OSError as error:
    print(0, error)
"""
CANARY = """
import asyncio, sys
from llmservice_runtime.supervisor.canary import answers
print(asyncio.run(answers("::", int(sys.argv[1]), 10.0)))
"""
PROBES = """
import asyncio
from llmservice_operator.control.health import Health
from llmservice_operator.control.main import _parser
from llmservice_operator.control.probes import probes

async def main():
    args = _parser().parse_args(["--config", "x"])
    async with probes(Health(10.0), lambda: None, args.host, args.port):
        print("listening", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def ask(cable: Cable, port: int, path: str, body: str = "") -> tuple[int, str]:
    """(status, text) as the client gets it; status 0 = no connection."""
    url = f"http://{cable.host}:{port}{path}"
    done = subprocess.run(cable.in_client(sys.executable, "-c", ASK, url, body), check=True, capture_output=True)
    status, _, text = done.stdout.decode().partition(" ")
    return int(status), text


def until(what: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert process.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.1)


@contextlib.contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.mark.engine
def test_a_replica_is_reached_over_the_only_family_that_its_pod_has(cable: Cable, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(json.dumps(SETTINGS))
    command = [sys.executable, "-m", "llmservice_runtime", "serve", "--settings", str(tmp_path / "settings.json")]
    log = tmp_path / "log"
    with running(cable.in_pod(*command), log) as process:
        until(lambda: ask(cable, 8001, "/readyz")[0] == 200, process, log)
        assert ask(cable, 8001, "/livez")[0] == 200
        body = {"model": "demo", "prompt": "What is LLMService?", "max_tokens": 4}
        status, text = ask(cable, 8000, "/v1/completions", json.dumps(body))
        assert status == 200, text
        assert json.loads(text)["choices"][0]["text"]
        found = subprocess.run(cable.in_pod(sys.executable, "-c", CANARY, "8000"), capture_output=True, check=True)
        assert found.stdout.decode().strip() == "True"


def test_the_operators_probes_are_reached_over_the_only_family_that_its_pod_has(cable: Cable, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(cable.in_pod(sys.executable, "-c", PROBES), log) as process:
        until(lambda: "listening" in log.read_text(), process, log)
        assert ask(cable, 8081, "/livez") == (200, "ok\n\n")
        assert "llmservice_operator_leader" in ask(cable, 8081, "/metrics")[1]


def test_a_kernel_without_ipv6_gets_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.has_dualstack_ipv6", lambda: False)
    with listening(EVERY, 0, 1) as listener:
        assert listener.getsockname()[0] == "0.0.0.0"


@pytest.mark.parametrize(
    ("host", "urls"),
    [
        ("::", ("127.0.0.1", "[::1]")),
        ("0.0.0.0", ("127.0.0.1", "[::1]")),
        ("fd00::1", ("[fd00::1]",)),
        ("10.0.0.1", ("10.0.0.1",)),
    ],
)
def test_what_listens_on_every_address_is_dialled_on_loopback(host: str, urls: tuple[str, ...]) -> None:
    assert dialled(host) == urls
