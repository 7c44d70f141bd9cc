from __future__ import annotations

from typing import Any

from llmservice_kube.client import MANAGER
from llmservice_operator.control.diff import must_apply, stamped

WANTED: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "qwen", "namespace": "apps", "ownerReferences": [{"uid": "u", "kind": "LLMService"}]},
    "spec": {"ports": [{"port": 80, "name": "http"}]},
}
PORTS: dict[str, Any] = {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:name": {}}}


def live(ports: dict[str, Any]) -> dict[str, Any]:
    """As the server spells ownership: owners are atomic items, ports are told apart by a default as well."""
    fields = {
        "f:metadata": {"f:annotations": {"f:llmservice.dev/applied": {}}, "f:ownerReferences": {'k:{"uid":"u"}': {}}},
        "f:spec": {"f:ports": ports},
    }
    applied = stamped(WANTED)
    entry = {"manager": MANAGER, "operation": "Apply", "fieldsV1": fields}
    return {**applied, "metadata": {**applied["metadata"], "managedFields": [entry]}}


def test_what_is_ours_and_as_applied_is_left() -> None:
    assert not must_apply(stamped(WANTED), live(PORTS))


def test_absent_changed_or_lost_is_applied() -> None:
    assert must_apply(stamped(WANTED), None)
    assert must_apply(stamped({**WANTED, "spec": {"ports": []}}), live(PORTS))
    assert must_apply(stamped(WANTED), live({'k:{"port":81}': {".": {}}}))
    assert must_apply(stamped(WANTED), live({'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}}}))
