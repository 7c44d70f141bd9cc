"""How requests reach a service: through the installation's gateway alone, or directly as well."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from core_world import CONFIG, World  # type: ignore[import-not-found]

from llmservice_api.status import LLMServiceStatus
from llmservice_api.v1alpha1 import EndpointAccess
from llmservice_operator.facts.access import access_of
from llmservice_operator.facts.config import Gateway

GATEWAY = Gateway("llm-gateway", (("app.kubernetes.io/component", "gateway"),))
WITH_GATEWAY = dataclasses.replace(CONFIG, gateway=GATEWAY)
DIRECTLY = dataclasses.replace(CONFIG, gateway=dataclasses.replace(GATEWAY, access=EndpointAccess.DIRECT))
HERE, THERE = "http://llm-gateway.llm.svc.cluster.local/apps/demo/v1", "http://demo.apps.svc.cluster.local/v1"
ZERO = {"minReplicas": 0, "maxReplicas": 1}


def senders(world: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = world.get("NetworkPolicy")["spec"]["ingress"][0]["from"]
    return found


def test_a_service_is_reached_as_the_installation_says_and_an_edit_is_live(world: World) -> None:
    world.config = WITH_GATEWAY
    world.served()
    assert world.service["status"]["url"] == HERE
    assert senders(world) == [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "llm"}},
            "podSelector": {"matchLabels": {"app.kubernetes.io/component": "gateway"}},
        }
    ]
    assert sorted(world.edit(endpoint={"access": "Direct"}).pass_()) == ["NetworkPolicy demo", "status"]
    assert world.service["status"]["url"] == THERE
    assert {"podSelector": {}} in senders(world) and len(senders(world)) == 2


def test_what_a_service_says_wins_over_the_installation(world: World) -> None:
    world.config = DIRECTLY
    world.served()
    assert world.service["status"]["url"] == THERE
    world.edit(endpoint={"access": "Gateway"}).pass_()
    assert world.service["status"]["url"] == HERE and {"podSelector": {}} not in senders(world)


def test_without_a_gateway_it_is_refused_and_what_runs_stays_reachable(world: World) -> None:
    world.served()
    world.edit(endpoint={"access": "Gateway"}).pass_()
    valid = world.condition("SpecValid")
    assert valid["status"] == "False" and "gateway.enabled" in valid["message"]
    assert world.condition("Ready")["status"] == "True"
    assert world.service["status"]["url"] == THERE and {"podSelector": {}} in senders(world)


@pytest.mark.parametrize(
    ("config", "endpoint", "said"),
    [
        (CONFIG, {}, "has no gateway"),
        (DIRECTLY, {}, "gives services direct access"),
        (WITH_GATEWAY, {"access": "Direct"}, "only a gateway notices"),
    ],
)
def test_nothing_scales_to_zero_that_no_gateway_stands_before(
    world: World, config: Any, endpoint: dict[str, str], said: str
) -> None:
    world.config = config
    world.edit(scaling=ZERO, endpoint=endpoint).pass_()
    assert said in world.condition("SpecValid")["message"]


@pytest.mark.parametrize("spec", [{}, {"endpoint": None}, {"endpoint": 3}, {"endpoint": {"access": "Both"}}])
def test_a_spec_that_says_something_else_says_nothing(spec: dict[str, Any]) -> None:
    assert access_of(spec, WITH_GATEWAY) is EndpointAccess.GATEWAY
    assert access_of(spec, CONFIG) is EndpointAccess.DIRECT


def test_the_plan_in_status_has_the_numbers_that_gateways_go_by(world: World) -> None:
    world.served()
    plan = LLMServiceStatus.model_validate(world.service["status"]).plan
    assert plan is not None
    numbers = plan.context_tokens, plan.max_sequences, plan.kv_tokens, plan.progress_seconds
    assert all(number is not None and number > 0 for number in numbers), numbers
    assert plan.kv_tokens is not None and plan.context_tokens is not None and plan.kv_tokens >= plan.context_tokens
