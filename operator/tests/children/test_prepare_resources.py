"""What containers that read or download a model ask for: the spec's, else the installation's, no contradiction."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_operator.children.prepare_job import job_name, prepare_job
from llmservice_operator.children.prepare_resources import prepare_resources
from llmservice_operator.facts.config import OperatorConfig, RuntimeImage
from llmservice_operator.facts.owner import Owner
from llmservice_operator.facts.quantity import parse_quantity
from llmservice_runtime.contract.engines import EngineType

OWNER = Owner("demo", "apps", "u-1")
CONFIG = OperatorConfig((RuntimeImage("r:1", (EngineType.LLAMA_CPP,)),), "llm")


def spec(**resources: Any) -> LLMServiceSpec:
    return LLMServiceSpec.model_validate({"model": {"uri": "hf://a/b"}, "prepare": {"resources": resources}})


def test_a_job_has_limits_that_a_quota_can_count() -> None:
    (container,) = prepare_job(OWNER, spec(), CONFIG, "a")["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "100m", "memory": "256Mi"},
        "limits": {"cpu": "2", "memory": "512Mi"},
    }


@pytest.mark.parametrize(
    ("said", "requests", "limits"),
    [
        ({"limits": {"memory": "128Mi"}}, {"cpu": "100m", "memory": "128Mi"}, {"cpu": "2", "memory": "128Mi"}),
        ({"requests": {"memory": "1Gi"}}, {"cpu": "100m", "memory": "1Gi"}, {"cpu": "2", "memory": "1Gi"}),
        (
            {"limits": {"ephemeral-storage": "1Gi"}},
            {"cpu": "100m", "memory": "256Mi"},
            {"cpu": "2", "memory": "512Mi", "ephemeral-storage": "1Gi"},
        ),
    ],
)
def test_the_spec_decides_and_bounds_what_it_does_not_say(
    said: dict[str, Any], requests: dict[str, str], limits: dict[str, str]
) -> None:
    assert prepare_resources(spec(**said), CONFIG) == {"requests": requests, "limits": limits}
    assert job_name(OWNER, spec(**said)) != job_name(OWNER, spec()), "a Job can't be changed: another one is made"


def test_the_installation_decides_for_services_that_say_nothing() -> None:
    config = dataclasses.replace(CONFIG, prepare_requests=(("memory", "64Mi"),), prepare_limits=())
    assert prepare_resources(spec(), config) == {"requests": {"memory": "64Mi"}}


AMOUNT = st.sampled_from(["50m", "1", "64Mi", "256Mi", "1Gi", "4", None])


@given(AMOUNT, AMOUNT, AMOUNT, AMOUNT)
def test_no_request_is_above_a_limit_unless_the_spec_says_both(
    cpu: str | None, memory: str | None, cpu_limit: str | None, memory_limit: str | None
) -> None:
    said = {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu_limit, "memory": memory_limit}}
    found = prepare_resources(spec(**said), CONFIG)
    for name in ("cpu", "memory"):
        if said["requests"][name] is None or said["limits"][name] is None:
            assert parse_quantity(found["requests"][name]) <= parse_quantity(found["limits"][name])
