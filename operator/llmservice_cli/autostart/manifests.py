"""What runs now, as manifests that serve the same again."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from llmservice_cli.wanted.words import absolute


def manifests(services: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """LLMServices of a snapshot without what they were told: paths are absolute, as the file stands elsewhere."""
    return [_manifest(entry) for entry in services]


def _manifest(entry: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = copy.deepcopy(entry["object"])
    found.pop("status", None)
    kept = ("name", "namespace", "labels", "annotations")
    found["metadata"] = {key: found["metadata"][key] for key in kept if found["metadata"].get(key)}
    spec = found["spec"]
    if (spec.get("scaling") or {}).get("minReplicas") == 0:
        spec.pop("replicas", None)
    for model in (spec["model"], *(spec.get("adapters") or ())):
        model["uri"] = absolute(model["uri"], entry["base"])
    return found
