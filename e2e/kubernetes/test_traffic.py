"""Change under load: no request fails while replicas, arguments, context and model change."""

from __future__ import annotations

import pytest

from harness.chat import Client
from harness.service import Service
from harness.traffic import traffic


@pytest.mark.parametrize("access", ["Direct", "Gateway"])
def test_no_request_fails_while_everything_changes(service: Service, client: Client, access: str) -> None:
    service.create(endpoint={"access": access, "drainSeconds": 60}).wait_ready()
    changes = (
        ({"replicas": 2}, 2),
        ({"engine": {"args": ["--threads-batch=1"]}}, 2),
        ({"replicas": 1, "contextTokens": 256}, 1),
        ({"model": {"uri": "file:///models/demo", "include": ["*.gguf"]}}, 1),
    )
    with traffic(client, service.status()["url"]) as sent:
        for change, replicas in changes:
            service.edit(**change)
            service.wait_ready(replicas, seconds=150)
    assert not sent.failures, f"{len(sent.failures)} of {sent.requests}: {sent.failures[:5]}\n{service.report()}"
    assert sent.requests > 50


def test_a_replica_that_dies_is_noticed(service: Service, client: Client) -> None:
    """What the test before stands on: the traffic sees what fails. A gateway would let requests wait."""
    service.create(endpoint={"access": "Direct"}).wait_ready()
    with traffic(client, service.status()["url"]) as sent:
        service.api.delete("pods", service.namespace, service.pods()[0]["metadata"]["name"], grace=0)
        service.wait_condition("Available", "False")
        service.wait_ready()
    assert sent.failures
    assert sent.requests > len(sent.failures)
