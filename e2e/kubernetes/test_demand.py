"""Replicas follow what is asked: from none to several and back to none, and no request fails on the way."""

from __future__ import annotations

import time
from contextlib import closing

import ollama
import pytest
from xinference_client import RESTfulClient

from harness import release
from harness.api import Api
from harness.chat import Client, trained_answer
from harness.demand import GATEWAY, URL, Asked, explained, held, idle, wanted
from harness.operator import crash, leader
from harness.programs import PROVIDER, forwarded
from harness.service import QUESTION, Service
from harness.traffic import traffic

BOUNDS = {"minReplicas": 0, "maxReplicas": 3, "idleSeconds": 15, "scaleDownSeconds": 10}
STREAMS = 6


def test_from_none_to_several_and_back_and_no_request_fails(
    service: Service, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first and the last request come from clients of others, in the protocols of Ollama and Xinference."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    service.create(scaling={**BOUNDS, "target": {"requestsPerReplica": 2}}).wait_ready()
    key, user = release.first_key(service.api), [{"role": "user", "content": QUESTION}]
    idle(service)
    headers = {"Authorization": f"Bearer {key}"}
    with forwarded(release.NAMESPACE, GATEWAY) as url, ollama.Client(url, headers=headers, timeout=240) as asked:
        said = asked.chat(service.full_name, user, options={"temperature": 0})
    assert said.message.content == trained_answer(QUESTION) and said.load_duration, said
    with traffic(client, service.status()["url"], STREAMS) as sent:
        service.wait(lambda: wanted(service) == 3, "three are wanted", 60)
        service.wait(lambda: service.status().get("readyReplicas") == 3, "three serve", 120)
        told = explained(service)
        assert told["replicas"] == 3 and told["signals"][0]["name"] == "requests", told
    assert not sent.failures, f"{len(sent.failures)} of {sent.requests}: {sent.failures[:5]}"
    idle(service)
    changes = [(one["before"], one["replicas"]) for one in explained(service)["changes"]]
    assert changes[-1][1] == 0 and (0, 1) in changes, changes
    with (
        forwarded(release.NAMESPACE, GATEWAY) as url,
        closing(RESTfulClient(url, api_key=key)) as there,
        closing(there.get_model(service.full_name.replace("/", "."))) as model,
    ):
        told = model.chat(user, generate_config={"temperature": 0})
    assert told["choices"][0]["message"]["content"] == trained_answer(QUESTION), told


@pytest.mark.alone
@pytest.mark.node_level
@pytest.mark.skipif(PROVIDER != "bare", reason="ends a process on a node, which only the bare provider lets it find")
def test_a_leader_that_dies_while_a_request_is_held_is_followed_by_one_that_wakes(
    service: Service, client: Client, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    service.create(replicas=0, scaling=BOUNDS)
    idle(service)
    client.wait()
    crash(api.get("pods", release.NAMESPACE, leader(api)))
    began = time.monotonic()
    asked = Asked(client, service.full_name)
    service.wait(lambda: held(api, service) == 1, "it is held")
    service.wait(lambda: wanted(service) == 1, "another leader wakes it", 120)
    woken = time.monotonic() - began
    asked.join()
    assert asked.found["status"] == 200, f"woken after {woken:.0f} s: {asked.found}"
    with capsys.disabled():
        print(f"\nwoken {woken:.1f} s after the leader was killed")
    assert woken < 20, "12 s of a dead leader's Lease and 2 s until that is seen, unless its own pod leads again before"


def test_an_edit_while_replicas_come_costs_no_request(service: Service, client: Client) -> None:
    bounds = {**BOUNDS, "minReplicas": 1, "target": {"requestsPerReplica": 2}}
    service.create(scaling=bounds, endpoint={"drainSeconds": 60}).wait_ready()
    with traffic(client, service.status()["url"], STREAMS) as sent:
        service.wait(lambda: wanted(service) == 3, "three are wanted", 60)
        service.edit(contextTokens=256)
        service.wait_ready(3, seconds=240)
    assert not sent.failures, f"{len(sent.failures)} of {sent.requests}: {sent.failures[:5]}\n{service.report()}"


def test_of_many_requests_to_none_as_many_wait_as_may_and_all_are_served(service: Service, client: Client) -> None:
    service.create(replicas=0, scaling={**BOUNDS, "maxReplicas": 1}, endpoint={"maxQueuedRequests": 100})
    idle(service)
    told = client.run("many", URL, service.full_name, "300", "100", seconds=300)
    assert told.keys() == {"200", "429 queue_full"}, told
    assert told["200"] >= 100 and sum(told.values()) == 300, told
