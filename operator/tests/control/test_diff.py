from __future__ import annotations

from typing import Any

from llmservice_kube.client import MANAGER
from llmservice_operator.control.contested import contested
from llmservice_operator.control.diff import must_apply, stamped, why

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


def test_the_log_names_the_fields_and_no_values() -> None:
    wanted, there = stamped(WANTED), live(PORTS)
    assert why(wanted, None) == "it was not there"
    edited = stamped({**WANTED, "spec": {"ports": [{"port": 80, "name": "http", "targetPort": 8000}], "type": "X"}})
    assert why(edited, there) == "spec.ports[name=http].targetPort, spec.type differ"
    less = stamped({**WANTED, "spec": {}})
    assert why(less, there) == "spec.ports no longer wanted"
    lost = live({'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}}})
    assert why(wanted, lost) == "spec.ports[name=http].name taken by somebody"


def test_quantities_in_another_spelling_are_no_difference() -> None:
    wanted = stamped({**WANTED, "spec": {"memory": "1024Mi", "cpu": "2"}})
    there = {**live(PORTS), "spec": {"memory": "1Gi", "cpu": "1"}}
    assert why(wanted, there).startswith("spec.cpu differ")


def test_who_took_a_field_is_told_by_its_managers() -> None:
    there = live({'k:{"port":81}': {".": {}}})
    theirs = {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {"f:ports": PORTS}}}
    there["metadata"]["managedFields"].append(theirs)
    said = contested("Service", stamped(WANTED), there).message
    assert said.startswith("kubectl takes spec.ports[name=http] back as soon as it is written.")
    other = stamped({**WANTED, "spec": {"ports": []}})
    assert contested("Service", other, live(PORTS)).message.startswith("another installation of this operator")
    assert contested("Service", other, None).message.startswith("somebody deletes it")
