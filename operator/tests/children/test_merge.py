"""Merging a partial pod: lists as in a strategic merge patch, and everything that was overridden is named."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmservice_operator.children.merge import KEYS, Merge

BASE: dict[str, Any] = {
    "containers": [{"name": "runtime", "image": "r:1", "env": [{"name": "HOME", "value": "/tmp"}]}],
    "tolerations": [{"key": "nvidia.com/gpu"}],
    "volumes": [{"name": "tmp", "emptyDir": {}}],
    "securityContext": {"runAsNonRoot": True},
}
TERM = {"matchExpressions": [{"key": "product", "operator": "In", "values": ["L4"]}]}


@pytest.mark.parametrize(
    ("patch", "path", "wanted", "overridden"),
    [
        ({"priorityClassName": "high"}, "priorityClassName", "high", []),
        ({"securityContext": {"fsGroup": 1}}, "securityContext", {"runAsNonRoot": True, "fsGroup": 1}, []),
        ({"securityContext": {"runAsNonRoot": None}}, "securityContext", {}, ["securityContext.runAsNonRoot"]),
        ({"nodeName": None}, "nodeName", None, []),
        ({"tolerations": [{"key": "spot"}]}, "tolerations", [{"key": "nvidia.com/gpu"}, {"key": "spot"}], []),
        ({"tolerations": []}, "tolerations", BASE["tolerations"], []),
        (
            {"volumes": [{"name": "tmp", "emptyDir": {"medium": "Memory"}}, {"name": "x", "emptyDir": {}}]},
            "volumes",
            [{"name": "tmp", "emptyDir": {"medium": "Memory"}}, {"name": "x", "emptyDir": {}}],
            [],
        ),
        (
            {
                "containers": [
                    {"name": "runtime", "env": [{"name": "HOME", "value": "/h"}, {"name": "A", "value": "1"}]}
                ]
            },
            "containers",
            [{**BASE["containers"][0], "env": [{"name": "HOME", "value": "/h"}, {"name": "A", "value": "1"}]}],
            ["containers[runtime].env[HOME].value"],
        ),
        (
            {"containers": [{"name": "side", "image": "s:1", "args": []}]},
            "containers",
            [*BASE["containers"], {"name": "side", "image": "s:1"}],
            [],
        ),
    ],
)
def test_a_patch_is_merged_and_what_it_overrides_is_named(
    patch: dict[str, Any], path: str, wanted: object, overridden: list[str]
) -> None:
    merge, before = Merge(), copy.deepcopy(BASE)
    assert merge.merge(BASE, patch).get(path) == wanted
    assert merge.overridden == overridden
    assert before == BASE


def test_node_terms_of_both_sides_hold() -> None:
    base = {"nodeSelectorTerms": [TERM]}
    zones = [{"matchExpressions": [{"key": "zone", "operator": "In", "values": [name]}]} for name in "ab"]
    merged = Merge().merge(base, {"nodeSelectorTerms": zones})["nodeSelectorTerms"]
    assert merged == [{"matchExpressions": [*TERM["matchExpressions"], *zone["matchExpressions"]]} for zone in zones]


LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
NAMES = st.sampled_from([*KEYS, "tolerations", "name", "mountPath", "spec", "x"])
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)


@example({"containers": [{"name": []}]}, {"containers": [None]})
@given(st.dictionaries(NAMES, JSON, max_size=4), st.dictionaries(NAMES, JSON, max_size=4))
def test_whatever_is_merged_nothing_fails_and_nothing_comes_from_elsewhere(base: Any, patch: Any) -> None:
    before = copy.deepcopy((base, patch))
    merged = Merge().merge(base, patch)
    assert (base, patch) == before
    assert set(merged) <= set(base) | set(patch)
    assert {name: value for name, value in merged.items() if name not in patch} == {
        name: value for name, value in base.items() if name not in patch
    }
