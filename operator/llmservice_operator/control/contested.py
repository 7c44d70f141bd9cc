"""What to say of an object that has to be written again and again. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmservice_kube.client import MANAGER
from llmservice_operator.control.diff import listed, taken
from llmservice_operator.control.ledger import LOOP_WRITES, SLOW_WRITES
from llmservice_operator.control.pace import HURRY_WRITES
from llmservice_operator.facts.values import CONTESTED, Refused


def contested(kind: str, wanted: Mapping[str, Any], live: Mapping[str, Any] | None) -> Refused:
    """Which fields are lost, to whom, and what to do; `live` with all its managedFields, None when it was deleted."""
    name = wanted["metadata"]["name"]
    often = (
        f"This happened more than {LOOP_WRITES} times in a minute, or {SLOW_WRITES} in ten, so it is written once a "
        "minute from now on."
    )
    if live is None:
        way = f"Find out from the API server's audit log who deletes it and have that left alone: the {kind} is needed."
        return Refused(kind, name, CONTESTED, f"somebody deletes it as soon as it is made. {often} {way}")
    fields, managers = taken(wanted, live)
    others = [manager for manager in managers if manager != MANAGER]
    if others:
        who, way = (
            " and ".join(others),
            f"Have {' and '.join(others)} leave these fields alone.",
        )
    elif MANAGER in managers:
        who = "another installation of this operator, or an older release of it,"
        way = "Remove one of them, or part the namespaces that they watch (watchNamespaces)."
    else:
        who, way = (
            "somebody",
            f"Find out who writes this {kind} (kubectl get --show-managed-fields; a webhook?) and have it stopped.",
        )
    return Refused(kind, name, CONTESTED, f"{who} takes {listed(fields)} back as soon as it is written. {often} {way}")


def hurried(kind: str, name: str) -> Refused:
    """What is wanted of the object is another thing every time: somebody edits the service all the time."""
    return Refused(
        kind,
        name,
        CONTESTED,
        f"what is asked of objects of this kind has changed more than {HURRY_WRITES} times in a minute, so they are "
        "written once a minute from now on. Find out who edits this LLMService, its labels or its annotations "
        "(kubectl get llmsvc -o yaml --show-managed-fields) and have it stopped.",
    )
