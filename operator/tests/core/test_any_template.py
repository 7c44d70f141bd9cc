"""Whatever `podTemplate` says, a pass over the service ends with words: no null and no shape gets around the rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from core_world import GPU_CONFIG, L4_NODES, NODES, World  # type: ignore[import-not-found]
from hypothesis import given, settings
from hypothesis import strategies as st

from llmservice_operator.facts.nodes import NodeKind
from llmservice_operator.facts.pod_rules import POD

Json = dict[str, Any]
CLAIM = {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"size": "9Gi"}}
UNLABELLED = (*NODES, NodeKind(16, 64 << 30, "amd64", (("nvidia.com/gpu", 1),)))


def world(pod: Json, nodes: tuple[NodeKind, ...] = UNLABELLED, **more: Any) -> World:
    found = World(GPU_CONFIG, nodes).edit(podTemplate={"spec": pod}, **more)
    found.pass_()
    return found


def runtime(**fields: Any) -> Json:
    return {"containers": [{"name": "runtime", **fields}]}


def mount(path: str) -> Json:
    return {**runtime(volumeMounts=[{"name": "x", "mountPath": path}]), "volumes": [{"name": "x", "emptyDir": {}}]}


NULLS = [
    *(({name: None}, f"spec.{name} ") for name in ("containers", "initContainers", "volumes")),
    *(
        (runtime(**{name: None}), f"spec.containers[runtime].{name} ")
        for name in ("readinessProbe", "startupProbe", "livenessProbe", "resources", "volumeMounts", "env")
    ),
    (runtime(resources={"limits": None}), "spec.containers[runtime].resources.limits "),
    (runtime(resources={"requests": None}), "spec.containers[runtime].resources.requests "),
]
PATHS = ["//etc/llmservice", "/etc/../etc/llmservice", "/etc/./llmservice/", "etc/llmservice", "/tmp/", "/x/../tmp/a"]
SHAPES: list[tuple[Json, str]] = [
    ({"volumes": [{"name": ["x"], "emptyDir": {}}]}, "spec.volumes[0].name"),
    ({"volumes": [{"emptyDir": {}}]}, "spec.volumes[0].name"),
    ({"containers": {"a": 1}}, "spec.containers"),
    ({"containers": [5]}, "spec.containers[0]"),
    ({"initContainers": [{"name": None}]}, "spec.initContainers[0].name"),
    (runtime(resources="x"), "spec.containers[0].resources"),
    (runtime(resources={"limits": ["x"]}), "spec.containers[0].resources.limits"),
    (runtime(env=[{"name": 5}]), "spec.containers[0].env[0].name"),
    ({"affinity": "x"}, "spec.affinity"),
    ({"securityContext": "no mapping"}, "spec.securityContext"),
    ({"initContainers": "no list"}, "spec.initContainers"),
    ({"nodeSelector": ["x"]}, "spec.nodeSelector"),
]
TERMS = "requiredDuringSchedulingIgnoredDuringExecution"
SHAPES.append(
    ({"affinity": {"nodeAffinity": {TERMS: {"nodeSelectorTerms": [{"matchExpressions": 5}]}}}}, "matchExpressions")
)


@pytest.mark.parametrize(("pod", "named"), [*NULLS, *((mount(path), path) for path in PATHS), *SHAPES])
def test_what_is_the_plans_or_no_pod_is_refused_by_name(pod: Json, named: str) -> None:
    said = world(pod, accelerator={"count": 1}, cache=CLAIM).condition("SpecValid")
    assert (said["status"], named in said["message"]) == ("False", True), said


def test_a_sidecars_own_nulls_and_times_of_probes_are_left_alone() -> None:
    side = {"name": "side", "image": "x", "resources": None, "readinessProbe": None}
    found = world({"containers": [side, {"name": "runtime", "readinessProbe": {"periodSeconds": 9}}], "affinity": None})
    assert found.condition("SpecValid")["status"] == "True"


KEYS = st.sampled_from(["name", "limits", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 9) | st.sampled_from(["", "x", "runtime", "/tmp", "tmp"]),
    lambda below: st.lists(below, max_size=2) | st.dictionaries(KEYS, below, max_size=2),
    max_leaves=4,
)  # fmt: skip
NAMES = st.sampled_from(["runtime", "fetch", "tmp", "side", "x"])


LISTS = ("containers", "initContainers", "volumes", "env", "envFrom", "ports", "volumeMounts", "sources")


def of(fields: Mapping[str, Any], wild: bool, several: bool = False) -> st.SearchStrategy[Any]:
    """A mapping with some of the known fields, or a list of such; if `wild`, anything else too."""
    more = dict.fromkeys(fields, JSON)
    more |= {name: of(below, wild, name in LISTS) for name, below in fields.items() if isinstance(below, Mapping)}
    keys = {name: NAMES for name in ("name", "mountPath") if name in fields}
    some = st.lists(st.sampled_from(sorted(more.keys() - keys)), max_size=3, unique=True)
    made = some.flatmap(lambda names: st.fixed_dictionaries(keys | {name: more[name] for name in names}))
    whole = st.lists(made, max_size=2) if several else made
    return whole | JSON | st.lists(made | JSON, max_size=2) if wild else whole


TERM = st.dictionaries(st.sampled_from(["matchExpressions", "matchFields", "x"]), JSON, max_size=2) | JSON
AFFINITY = st.fixed_dictionaries({"nodeAffinity": st.fixed_dictionaries({TERMS: st.fixed_dictionaries({
    "nodeSelectorTerms": st.lists(TERM, max_size=2) | JSON,
})})})  # fmt: skip
PODS = of(POD, wild=False) | of(POD, wild=True)
SPECS = st.fixed_dictionaries({}, optional={"accelerator": st.just({"count": 1}), "cache": st.just(CLAIM)})


@settings(max_examples=300, deadline=None)
@given(PODS, st.none() | AFFINITY, st.sampled_from([UNLABELLED, L4_NODES]), SPECS)
def test_any_json_at_any_known_place_ends_in_words(
    pod: Any, affinity: Any, nodes: tuple[NodeKind, ...], more: Json
) -> None:
    if affinity is not None and isinstance(pod, dict):
        pod = {**pod, "affinity": affinity}
    found = world(pod, nodes, **more)
    if found.condition("SpecValid")["status"] == "True":
        found.prepared().pass_()
    assert "InternalError" not in str(found.service["status"]["conditions"])
