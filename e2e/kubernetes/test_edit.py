"""Edits roll; those that can't be carried out leave what runs alone, and say so."""

from __future__ import annotations

from typing import Any

import pytest

from harness.chat import Client, trained_answer
from harness.service import DEMO, QUESTION, Service


def uids(service: Service) -> set[str]:
    return {pod["metadata"]["uid"] for pod in service.pods()}


def test_args_and_context_roll(service: Service) -> None:
    service.create().wait_ready()
    for change in ({"contextTokens": 256}, {"engine": {"args": ["--threads-batch=1"]}}):
        before, revision = uids(service), service.status()["currentRevision"]
        generation = service.edit(**change)
        service.wait_ready()
        assert not before & uids(service)
        status = service.status()
        assert status["currentRevision"] != revision
        assert {one["observedGeneration"] for one in status["conditions"]} == {generation}


BAD: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "argument": ({"engine": {"args": ["--no-such-argument"]}}, "Planned", "BadArgument", "no-such-argument"),
    "missing file": ({"model": {"uri": "file:///models/gone.gguf"}}, "ModelResolved", "ModelNotFound", "gone.gguf"),
    "too large": ({"resources": {"limits": {"memory": "64Mi"}}}, "Planned", "DoesNotFit", "64"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_edit_leaves_the_running_version(service: Service, client: Client, case: str) -> None:
    change, condition, reason, word = BAD[case]
    service.create().wait_ready()
    before = uids(service)
    generation = service.edit(**change)
    found = service.wait_condition(condition, "False", reason)
    assert word in found["message"]
    service.wait(lambda: service.status()["observedGeneration"] == generation, "it was seen")
    assert service.wait_condition("Ready", "True", "ServingEarlierSpec")["message"].count(word)
    assert uids(service) == before
    assert client.chat(service.status()["url"], QUESTION) == trained_answer(QUESTION)

    service.edit(model={"uri": DEMO}, engine=None, resources={"limits": None})
    service.wait_ready()
    assert uids(service) == before, "back to what runs: nothing is restarted"
