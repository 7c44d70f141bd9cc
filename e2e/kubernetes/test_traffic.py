"""Change under load: no request fails while replicas, arguments, context and model change."""

from __future__ import annotations

from harness.chat import Client
from harness.service import Service
from harness.traffic import traffic


def test_no_request_fails_while_everything_changes(service: Service, client: Client) -> None:
    service.create(endpoint={"drainSeconds": 60}).wait_ready()
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
