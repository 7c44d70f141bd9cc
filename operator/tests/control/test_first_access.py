"""What an installation's gateway is to services that don't say it, from its first start on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from fake_api import FakeApi, fake_api, refusal  # type: ignore[import-not-found]

from llmservice_api.v1alpha1 import EndpointAccess
from llmservice_kube.client import Client
from llmservice_kube.kinds import LEASE
from llmservice_operator.control import access
from llmservice_operator.control.access import ACCESS, with_access
from llmservice_operator.control.health import Health
from llmservice_operator.control.rivals import LEASE_NAME
from llmservice_operator.facts.config import Gateway, OperatorConfig

CONFIG = OperatorConfig((), "llm", gateway=Gateway("gateway", ()))
GATEWAY, DIRECT = EndpointAccess.GATEWAY, EndpointAccess.DIRECT


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with fake_api() as server:
        yield server


async def found(api: FakeApi, said: EndpointAccess | None = None, config: OperatorConfig = CONFIG) -> OperatorConfig:
    async with Client(api.access, sleep=lambda seconds: asyncio.sleep(0)) as client:
        return await with_access(client, config, "llm", said, Health(1e9))


def lease(**annotations: str) -> dict[str, object]:
    return {"metadata": {"name": LEASE_NAME, "namespace": "llm", "annotations": annotations}, "spec": {}}


@pytest.mark.parametrize(
    ("annotations", "said", "expected"),
    [
        (None, None, GATEWAY),  # a new installation
        ({}, None, DIRECT),  # of a release that had no gateway
        ({"other": "x"}, None, DIRECT),
        ({ACCESS: "Gateway"}, None, GATEWAY),
        ({ACCESS: "Direct"}, None, DIRECT),
        ({ACCESS: "garbage"}, None, DIRECT),
        ({ACCESS: "Direct"}, GATEWAY, GATEWAY),
        (None, DIRECT, DIRECT),
    ],
)
async def test_it_stays_as_it_began_unless_it_is_said(
    api: FakeApi, annotations: dict[str, str] | None, said: EndpointAccess | None, expected: EndpointAccess
) -> None:
    if annotations is not None:
        api.put(lease(**annotations), LEASE)
    config = await found(api, said)
    assert config.gateway is not None and config.gateway.access is expected


async def test_an_installation_without_a_gateway_asks_nobody(api: FakeApi) -> None:
    config = OperatorConfig((), "llm")
    assert await found(api, config=config) == config and not api.requests


async def test_a_server_that_does_not_answer_is_waited_for(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "RETRY_SECONDS", 0.01)
    api.put(lease(**{ACCESS: "Gateway"}), LEASE)
    api.fault = lambda method, path: refusal(503) if len(api.requests) < 12 else None
    config = await found(api)
    assert config.gateway is not None and config.gateway.access is GATEWAY
