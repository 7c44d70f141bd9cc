"""API keys in front of services: made by the command line, obeyed by every gateway, and revoked within seconds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness import release
from harness.api import Api
from harness.chat import Client, trained_answer
from harness.keys import keys
from harness.programs import Failed, kubectl
from harness.service import QUESTION, Service

URL = f"http://{release.NAME}-gateway.{release.NAMESPACE}.svc.cluster.local/v1"
PODS = "app.kubernetes.io/component=gateway"
REVOKED_SECONDS = 30
LIMIT = 10


@pytest.fixture
def name(service: Service) -> Iterator[str]:
    """Of a key that goes with the test."""
    made = service.namespace[:60]
    yield made
    if made in json.loads(keys("list", "--output", "json"))["keys"]:
        keys("revoke", made)


def ask(client: Client, key: str, model: str) -> dict[str, Any]:
    client.key = key
    found: dict[str, Any] = client.run("ask", URL, model, QUESTION, seconds=300)
    return found


def test_a_key_works_for_its_services_until_it_is_revoked(
    service: Service, client: Client, api: Api, name: str, make_namespace: Callable[[], str]
) -> None:
    other = Service(api, make_namespace()).create()
    service.create().wait_ready()
    mine, theirs = f"{service.namespace}/demo", f"{other.namespace}/demo"
    key = keys("create", name, "--services", f"{service.namespace}/*").strip()
    service.wait(lambda: ask(client, key, mine)["status"] == 200, "the new key works", 60)
    assert ask(client, key, mine)["answer"] == trained_answer(QUESTION)
    assert (ask(client, key, theirs)["status"], ask(client, key, theirs)["code"]) == (404, "model_not_found")
    assert ask(client, key[:-1], mine)["code"] == "invalid_api_key"
    assert ask(client, "none", mine)["status"] == 401
    assert ask(client, "", mine)["status"] == 200, "the first key may use everything"

    another = keys("rotate", name, "--overlap", "1h").strip()
    service.wait(lambda: ask(client, another, mine)["status"] == 200, "the next key works", 60)
    assert ask(client, key, mine)["status"] == 200, "the one before works meanwhile"
    keys("revoke", name)
    service.wait(lambda: ask(client, another, mine)["status"] == 401, "it is revoked", REVOKED_SECONDS)
    assert ask(client, key, mine)["status"] == 401
    for pod in api.list("pods", release.NAMESPACE, PODS):
        logs = api.log(release.NAMESPACE, pod["metadata"]["name"], lines=5000)
        assert key not in logs and another not in logs
    service.wait(lambda: name in keys("usage"), "what it used is written", 120)


def test_two_gateways_share_one_keys_limit(service: Service, client: Client, api: Api, name: str) -> None:
    service.create().wait_ready()
    gateways = [pod["status"]["podIP"] for pod in api.list("pods", release.NAMESPACE, PODS)]
    assert len(gateways) == 2
    key = keys("create", name, "--services", "*/*", "--requests-per-minute", str(LIMIT)).strip()
    service.wait(lambda: ask(client, key, f"{service.namespace}/demo")["status"] == 200, "the new key works", 60)
    client.key = key
    urls = [f"http://[{ip}]:8080/v1" if ":" in ip else f"http://{ip}:8080/v1" for ip in gateways]
    counts = client.run("burst", f"{service.namespace}/demo", QUESTION, "20", *urls, seconds=300)
    assert sum(count.get("429", 0) for count in counts) >= 40 - LIMIT
    # One of the ten was the first request; a minute may have ended in between.
    assert all(LIMIT // 2 - 1 <= count.get("200", 0) <= LIMIT // 2 for count in counts), counts


def test_the_secret_has_no_key_and_the_gateway_may_read_no_other(api: Api, installed: release.Values) -> None:
    account = f"system:serviceaccount:{release.NAMESPACE}:{release.NAME}-gateway"
    keys_secret, first = f"secrets/{release.NAME}-gateway-keys", f"secrets/{release.NAME}-gateway-first-key"
    shown = release.first_key(api)
    found = api.get("secrets", release.NAMESPACE, keys_secret.partition("/")[2])
    assert shown.startswith("llmservice-") and shown not in json.dumps(found)
    for verb, what, may in (
        ("list", keys_secret, "yes"), ("watch", keys_secret, "yes"), ("get", first, "no"), ("list", "secrets", "no"),
        ("create", "secrets", "no"), ("patch", keys_secret, "no"),
    ):  # fmt: skip
        assert can(account, verb, what) == may, (verb, what)


def can(account: str, verb: str, what: str) -> str:
    """What `kubectl auth can-i` says; it ends with 1 when that is no."""
    try:
        return kubectl("--namespace", release.NAMESPACE, "auth", "can-i", verb, what, f"--as={account}").strip()
    except Failed as refused:
        return "no" if "\nno\n" in str(refused) else str(refused)
