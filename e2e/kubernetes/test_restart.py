"""The operator ends in the middle of something: whoever leads next goes on where it was."""

from __future__ import annotations

import time

import pytest

from harness import release
from harness.api import Api
from harness.operator import kill, kill_leader, wait_operator
from harness.service import Service

pytestmark = pytest.mark.alone


def test_the_leader_is_killed_in_the_middle_of_a_preparation(service: Service, api: Api) -> None:
    wait_operator(api)
    service.create()
    service.wait(lambda: api.list("jobs", service.namespace), "the Job that prepares")
    began = time.monotonic()
    kill_leader(api)
    assert time.monotonic() - began < 60
    service.wait_ready(seconds=150)
    wait_operator(api)


def test_every_operator_is_killed_in_the_middle_of_a_rollout(service: Service, api: Api) -> None:
    service.create(replicas=2).wait_ready(2)
    generation = service.edit(contextTokens=256)
    service.wait(lambda: len(service.pods()) == 3, "the rollout is under way")
    for pod in api.list("pods", release.NAMESPACE):
        kill(api, pod["metadata"]["name"])
    service.wait_ready(2, seconds=180)
    assert service.status()["observedGeneration"] == generation
    wait_operator(api)


def test_an_edit_without_a_leader_is_not_lost(service: Service, api: Api) -> None:
    wait_operator(api)
    service.create().wait_ready()
    for pod in api.list("pods", release.NAMESPACE):
        kill(api, pod["metadata"]["name"])
    service.edit(replicas=2)
    service.wait_ready(2, seconds=150)
    wait_operator(api)
