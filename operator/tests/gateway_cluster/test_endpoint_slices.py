"""From EndpointSlices to replicas: only those that take requests, and only of slices that the cluster made."""

from __future__ import annotations

import pytest
from cluster_objects import endpoint, endpoint_slice  # type: ignore[import-not-found]
from hypothesis import given
from hypothesis import strategies as st

from llmservice_gateway.cluster.endpoints import replicas
from llmservice_gateway.routing import Replica
from llmservice_kube.kinds import Json


def test_pods_that_are_not_ready_or_end_are_not_asked() -> None:
    made = endpoint_slice(
        endpoint("a", "10.0.0.1", ready=True, serving=True, terminating=False),
        endpoint("b", "10.0.0.2", ready=False, serving=False, terminating=False),
        endpoint("c", "10.0.0.3", ready=False, serving=True, terminating=True),
        endpoint("d", "10.0.0.4", ready=True, serving=True, terminating=True),
        endpoint("e", "10.0.0.5"),  # nothing is said: ready
        {"addresses": ["10.0.0.6"], "conditions": {"ready": True}},  # of no pod
    )
    assert replicas("demo", [made]) == (
        Replica("a", "http://10.0.0.1:8000"),
        Replica("e", "http://10.0.0.5:8000"),
    )


def test_a_pod_with_two_families_and_in_several_slices_is_one_replica() -> None:
    one = endpoint_slice(endpoint("a", "fd00::1"), endpoint("b", "fd00::2"), name="demo-1", family="IPv6")
    two = endpoint_slice(endpoint("a", "10.0.0.1"), name="demo-2")
    three = endpoint_slice(endpoint("c", "10.0.0.3"), name="demo-3", port=9000)
    assert replicas("demo", [one, two, three]) == (
        Replica("a", "http://10.0.0.1:8000"),
        Replica("b", "http://[fd00::2]:8000"),
        Replica("c", "http://10.0.0.3:9000"),
    )


@pytest.mark.parametrize(
    "foreign",
    [
        endpoint_slice(endpoint("x", "10.6.6.6"), labels={"kubernetes.io/service-name": "other"}),
        endpoint_slice(endpoint("x", "10.6.6.6"), labels={"endpointslice.kubernetes.io/managed-by": "me"}),
        endpoint_slice(endpoint("x", "10.6.6.6"), owners=[]),
        endpoint_slice(endpoint("x", "10.6.6.6"), owners=[{"kind": "Service", "name": "other"}]),
        endpoint_slice(endpoint("x", "10.6.6.6"), owners=[{"kind": "ConfigMap", "name": "demo"}]),
        endpoint_slice(endpoint("x", "10.6.6.6", namespace="kube-system")),
        endpoint_slice(endpoint("x", "evil.example"), family="FQDN"),
        {**endpoint_slice(endpoint("x", "10.6.6.6")), "ports": [{"name": "debug", "port": 1}]},
        {**endpoint_slice(endpoint("x", "10.6.6.6")), "ports": None},
        {**endpoint_slice(), "endpoints": None},
    ],
)
def test_what_the_cluster_did_not_make_leads_nowhere(foreign: Json) -> None:
    ours = endpoint_slice(endpoint("a", "10.0.0.1"))
    assert [replica.name for replica in replicas("demo", [foreign, ours])] == ["a"]


@given(st.permutations([endpoint_slice(endpoint(f"p{n}", f"10.0.0.{n}"), name=f"s{n}") for n in range(5)]))
def test_the_order_of_slices_changes_nothing(slices: list[Json]) -> None:
    assert [replica.name for replica in replicas("demo", slices)] == [f"p{n}" for n in range(5)]
