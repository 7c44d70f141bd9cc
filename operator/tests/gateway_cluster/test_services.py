"""From LLMServices to what is routed by and told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cluster_objects import llmservice  # type: ignore[import-not-found]

from llmservice_api.conditions import Reason
from llmservice_gateway.cluster.services import FINAL, PASSES, backend, why_unready
from llmservice_gateway.places import Capacity, Speed
from llmservice_gateway.routing import About, Backend, Replica
from llmservice_kube.kinds import Json
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.engines.base.case import TAKES_PICTURES


def test_what_was_planned_bounds_what_a_replica_is_given() -> None:
    plan = {"contextTokens": 4096, "maxSequences": 8, "kvTokens": 9000, "progressSeconds": 60}
    service = llmservice(plan=plan, spec={"endpoint": {"maxQueuedRequests": 1}})
    service["status"]["load"] = {"milliseconds": 1, "promptTokensPerSecond": 900, "togetherTokensPerSecond": 70}
    one = Replica("a", "http://10.0.0.1:8000")
    made = backend(service, (one,), gateways=2)
    assert made == Backend(
        "apps",
        "demo",
        (one,),
        unready=made.unready,
        created=1767323045,
        context_tokens=4096,
        silent_seconds=120.0,
        capacity=Capacity(8, 9000, 1),
        speed=Speed(900.0, 70.0),
        max_held=1,
        about=made.about,
    )


def test_what_is_known_of_the_model_is_what_clients_of_other_servers_are_told() -> None:
    service = llmservice(plan={"engine": "LlamaCpp", "task": "Chat"})
    service["status"]["model"] = {
        "resolvedRevision": "abc", "format": "GGUF", "architecture": "llama", "parameters": 7, "quantization": "Q4_K_M",
        "fileBytes": 9,
    }  # fmt: skip
    uri = service["spec"]["model"]["uri"]
    known = About("Chat", uri, "abc", "LlamaCpp", "GGUF", "llama", 7, "Q4_K_M", 9)
    assert backend(service).about == known
    service["status"]["plan"]["notes"] = [f"{TAKES_PICTURES}."]
    assert backend(service).about == replace(known, sees=True)
    for said in ([], ["Thinking", "Tools"]):
        service["status"]["model"]["abilities"] = said
        assert backend(service).about.abilities == frozenset(said)
    del service["status"]
    assert backend(service).about == About(uri=uri)
    service["spec"]["task"] = "Rerank"
    assert backend(service).about.task == "Rerank"


@pytest.mark.parametrize(("queued", "gateways", "each"), [(100, 1, 100), (100, 2, 50), (100, 3, 34), (0, 2, 0)])
def test_gateways_share_how_many_may_wait(queued: int, gateways: int, each: int) -> None:
    service = llmservice(spec={"endpoint": {"maxQueuedRequests": queued}})
    assert backend(service, (), gateways).max_held == each


def test_since_when_another_object_has_its_name_is_known() -> None:
    service = llmservice(reason="NameConflict", message="A Deployment is there.")
    assert why_unready(service).since == 0
    at = {"type": "NameConflict", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z"}
    service["status"]["conditions"].append(at)
    assert why_unready(service).since == 1767323045


def test_a_service_that_nobody_has_looked_at_yet_holds_requests() -> None:
    service = llmservice()
    del service["status"]
    told = why_unready(service)
    assert (told.reason, told.held, told.final) == (Reason.STARTING, True, False)
    assert (backend(service).capacity, backend(service).speed) == (Capacity(), Speed())


@pytest.mark.parametrize("reason", sorted({*Reason, *FailureClass} & (PASSES | FINAL)))
def test_what_passes_is_waited_for_and_what_does_not_is_told(reason: str) -> None:
    told = why_unready(llmservice(reason=reason, message="Why. Do this."))
    if reason in (Reason.READY, Reason.STOPPED):
        reason = Reason.STARTING
    else:
        assert told.message == "Why. Do this."
    assert (told.reason, told.held, told.final) == (reason, reason in PASSES, reason in FINAL)


def test_no_reason_is_both() -> None:
    assert not PASSES & FINAL


@pytest.mark.parametrize(
    ("spec", "reason", "expected"),
    [
        ({"replicas": 0}, Reason.STOPPED, (Reason.STOPPED, False, True)),
        ({"replicas": 0}, Reason.READY, (Reason.STOPPED, False, True)),  # just stopped
        ({"replicas": 1}, Reason.STOPPED, (Reason.STARTING, True, False)),  # just started
        ({"replicas": 0, "scaling": {"maxReplicas": 2}}, Reason.IDLE, (Reason.IDLE, True, False)),
        ({"replicas": 0, "scaling": {"maxReplicas": 2}}, Reason.STOPPED, (Reason.IDLE, True, False)),
        ({"replicas": 0, "scaling": {"maxReplicas": 2, "mode": "External"}}, Reason.IDLE, (Reason.IDLE, True, False)),
        (
            {"replicas": 0, "scaling": {"maxReplicas": 2, "mode": "Fixed"}},
            Reason.STOPPED,
            (Reason.STOPPED, False, True),
        ),
        ({"replicas": 0, "scaling": {"maxReplicas": 2, "dryRun": True}}, Reason.STOPPED, (Reason.STOPPED, False, True)),
        ({"replicas": 0, "scaling": {"maxReplicas": 2}}, "DoesNotFit", ("DoesNotFit", False, True)),
        ({"replicas": 1}, "Crashed", ("Crashed", False, False)),
        ({"replicas": 1}, "NobodyKnowsThis", ("NobodyKnowsThis", False, False)),
    ],
)
def test_only_a_stop_by_hand_and_a_failure_refuse_at_once(
    spec: Json, reason: str, expected: tuple[str, bool, bool]
) -> None:
    told = why_unready(llmservice(spec=spec, reason=reason))
    assert (told.reason, told.held or told.final, told.final) == (expected[0], expected[1] or expected[2], expected[2])


def test_who_is_refused_is_told_when_to_come_back_by_what_loading_took() -> None:
    assert why_unready(llmservice()).retry_after == 10
    assert why_unready(llmservice(status={"load": {"milliseconds": 41_001}})).retry_after == 42
    assert why_unready(llmservice(status={"earlierLoads": [{"milliseconds": 10**9}]})).retry_after == 120


def test_a_service_that_is_being_removed_takes_nothing_new() -> None:
    service = llmservice()
    service["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    assert not why_unready(service).held
