"""Whose children they are: names, labels and the owner reference that has Kubernetes clean up."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmservice_api.labels import COMPONENT, NAME, QUEUE, serving
from llmservice_api.v1alpha1 import API_VERSION, KIND

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Owner:
    """The LLMService that owns the children."""

    name: str
    namespace: str
    uid: str
    queue: str = ""
    """Kueue's queue that its pods wait in; empty = none."""
    passed_labels: tuple[tuple[str, str], ...] = ()
    """Labels that its children have as well (`facts.passed_on`), and so the annotations."""
    passed_annotations: tuple[tuple[str, str], ...] = ()
    left_out: tuple[str, ...] = ()
    """Labels and annotations that its children would have if there were room."""

    @property
    def selector(self) -> dict[str, str]:
        """Labels of its replicas."""
        return serving(self.name)

    def child(self, api_version: str, kind: str, name: str, component: str = "", **body: Any) -> Json:
        """A whole object of this service; `component` as in llmservice_api.labels."""
        annotations = {"annotations": self.annotations} if self.annotations else {}
        return {
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "labels": self.labels(component),
                **annotations,
                "ownerReferences": [
                    {
                        "apiVersion": API_VERSION,
                        "kind": KIND,
                        "name": self.name,
                        "uid": self.uid,
                        "controller": True,
                        "blockOwnerDeletion": True,
                    }
                ],
            },
            **body,
        }

    def labels(self, component: str = "") -> dict[str, str]:
        """Labels of a child or a pod."""
        known = dict(self.passed_labels) | {NAME: self.name, "app.kubernetes.io/managed-by": "llmservice-operator"}
        queue = {QUEUE: self.queue} if self.queue else {}
        return known | ({COMPONENT: component} | queue if component else {})

    @property
    def annotations(self) -> dict[str, str]:
        """Annotations of a child or a pod."""
        return dict(self.passed_annotations)


def owns(owner: Owner, obj: Mapping[str, Any]) -> bool:
    """Whether an object is controlled by this very service, not by one of the same name that is gone."""
    references = obj["metadata"].get("ownerReferences", ())
    return any(reference.get("controller") and reference["uid"] == owner.uid for reference in references)


def digest(value: Any, length: int = 8) -> str:
    """The start of a hash of plain data, for names."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]
