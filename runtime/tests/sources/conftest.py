"""Fixtures of the source tests: servers, settings that never sleep, an environment without proxies and tokens."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from llmservice_runtime.sources.secrets import Secrets
from llmservice_runtime.sources.settings import SourceSettings
from tests.sources.servers import Handler, Server, start


@pytest.fixture
def make_server() -> Iterator[Callable[..., Server]]:
    listeners = []

    def make(handler: Handler | None = None, tls: ssl.SSLContext | None = None) -> Server:
        server, listener = start(tls)
        if handler is not None:
            server.handler = handler
        listeners.append(listener)
        return server

    yield make
    for listener in listeners:
        listener.shutdown()
        listener.server_close()


@pytest.fixture
def sleeps() -> list[float]:
    return []


@pytest.fixture
def settings(tmp_path: Path, sleeps: list[float]) -> SourceSettings:
    """Everything local, nothing slept."""
    return SourceSettings(cache=tmp_path / "cache", timeout_seconds=5.0, sleep=sleeps.append, attempts=3)


@pytest.fixture
def no_secrets() -> Secrets:
    return Secrets(environ={})


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
