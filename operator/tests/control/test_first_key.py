"""The gateway's first key: what becomes of a server that refuses, and of what is there already."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import Kind
from llmservice_operator.control import first_key
from llmservice_operator.control.first_key import ABOUT, FirstKey
from llmservice_operator.control.health import Health


class Server:
    """Secrets by name; refuses as long as it is told to."""

    def __init__(self) -> None:
        self.secrets: dict[str, Mapping[str, Any]] = {}
        self.refuses = True

    async def get(self, kind: Kind, namespace: str, name: str) -> Mapping[str, Any] | None:
        if self.refuses:
            raise ApiError("get", 403, "Forbidden", "you may not")
        return self.secrets.get(name)

    async def create(self, obj: Mapping[str, Any]) -> Mapping[str, Any] | None:
        name = obj["metadata"]["name"]
        if name in self.secrets:
            return None
        self.secrets[name] = obj
        return obj


async def test_a_refusal_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_key, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(first_key, "LOOK_SECONDS", 0.01)
    server, health = Server(), Health(1e9)
    made = FirstKey(server, "llm", "gateway", {"a": "b"}, health)  # type: ignore[arg-type]
    running = asyncio.create_task(made.run())
    try:
        async with asyncio.timeout(60):
            while ABOUT not in health.problems:  # noqa: ASYNC110 - seen from outside
                await asyncio.sleep(0.005)
            assert "you may not" in health.problems[ABOUT]
            server.refuses = False
            while ABOUT in health.problems or len(server.secrets) < 2:  # noqa: ASYNC110 - seen from outside
                await asyncio.sleep(0.005)
        first = server.secrets["gateway-first-key"]
        await asyncio.sleep(0.05)
        assert server.secrets["gateway-first-key"] is first and first["metadata"]["labels"] == {"a": "b"}
    finally:
        running.cancel()
        await asyncio.wait([running])
