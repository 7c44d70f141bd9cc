"""The remedy speaks of the field that decides for this container, and of a limit where it was a limit."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from llmservice_operator.diagnosis.case import Case
from llmservice_operator.diagnosis.pods import pod_problem
from llmservice_operator.facts.problem import Problem

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KILLED = {"exitCode": 137, "reason": "OOMKilled"}
TOTAL = "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi."
OWN = 'Container runtime exceeded its local ephemeral storage limit "1Gi".'
NODE = "The node was low on resource: ephemeral-storage."


def problem(name: str, status: dict[str, Any]) -> Problem:
    spec = {"containers": [{"name": name}], "restartPolicy": "Never" if name == "inspect" else "Always"}
    found = pod_problem(Case({"metadata": {"name": "p", "namespace": "n"}, "spec": spec, "status": status}, NOW))
    assert found is not None
    return found


def ended(name: str, **how: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": name, "ready": False, "restartCount": 0, "state": {"terminated": how}}]}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("runtime", "Raise spec.resources.limits.memory"),
        ("fetch", "Raise spec.prepare.resources.limits.memory"),
        ("inspect", "Raise spec.prepare.resources.limits.memory"),
        ("side", "The container side used"),
    ],
)
def test_who_is_killed_for_memory_is_told_the_field_of_its_own_limit(name: str, said: str) -> None:
    found = problem(name, ended(name, **KILLED))
    assert found.reason == "OutOfMemory"
    assert said in found.message


@pytest.mark.parametrize(
    ("name", "message", "said"),
    [
        ("runtime", TOTAL, "limits.ephemeral-storage in spec.resources"),
        ("runtime", OWN, "limits.ephemeral-storage in spec.resources"),
        ("inspect", TOTAL, "limits.ephemeral-storage in spec.prepare.resources"),
        ("runtime", NODE, "nodes with more disk"),
    ],
)
def test_a_limit_of_the_disk_is_told_from_a_disk_that_is_full(name: str, message: str, said: str) -> None:
    found = problem(name, {"phase": "Failed", "reason": "Evicted", "message": message})
    assert found.reason == "DiskFull"
    assert said in found.message


def test_a_pod_that_is_never_restarted_has_no_log_of_before() -> None:
    assert "--previous" not in problem("inspect", ended("inspect", exitCode=3)).message
    assert "--previous" in problem("runtime", ended("runtime", exitCode=3)).message
