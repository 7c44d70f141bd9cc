"""From `kubectl apply` to tokens."""

from __future__ import annotations

from harness.chat import Client, trained_answer
from harness.service import QUESTION, Service


def test_apply_answers_and_says_so(service: Service, client: Client) -> None:
    service.create().wait_ready()
    url = service.status()["url"]
    assert client.chat(url, QUESTION) == trained_answer(QUESTION)
    assert client.chat(url, QUESTION, stream=True) == trained_answer(QUESTION)
