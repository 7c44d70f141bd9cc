"""One LLMService in the cluster, as a test sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.api import Api, Json
from harness.report import report
from harness.wait import wait_for

DEMO = "file:///models/demo/demo-Q4_K_M.gguf"
"""The demo model in the runtime image: small, quick, and trained to say what runtime/demo/questions.json says."""
QUESTION = "What is LLMService?"
LITTLE = {"requests": {"cpu": "20m"}}
"""What a service asks for unless the test says otherwise: those of many tests fit on a small cluster at once."""


def manifest(name: str, namespace: str, uri: str = DEMO, **spec: Any) -> Json:
    """An LLMService. `spec`: further fields as in YAML; a `model` given here wins over `uri`."""
    return {
        "apiVersion": "llmservice.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"model": {"uri": uri}, "resources": LITTLE, **spec},
    }


class Service:
    """An LLMService by name, whether or not it exists."""

    def __init__(self, api: Api, namespace: str, name: str = "demo") -> None:
        self.api, self.namespace, self.name = api, namespace, name

    @property
    def full_name(self) -> str:
        """What a gateway calls it."""
        return f"{self.namespace}/{self.name}"

    def create(self, uri: str = DEMO, **spec: Any) -> Service:
        """Create it with these fields of the spec."""
        self.api.create("llmservices", self.namespace, manifest(self.name, self.namespace, uri, **spec))
        return self

    def edit(self, **spec: Any) -> int:
        """Merge into the spec (None removes a field); the new generation."""
        changed = self.api.patch("llmservices", self.namespace, self.name, {"spec": spec})
        return int(changed["metadata"]["generation"])

    def delete(self) -> None:
        """Delete it, in the background."""
        self.api.delete("llmservices", self.namespace, self.name)

    def object(self) -> Json:
        """The object as it is now."""
        return self.api.get("llmservices", self.namespace, self.name)

    def status(self) -> Json:
        """Its status; empty before the operator saw it."""
        found: Json = self.object().get("status", {})
        return found

    def condition(self, kind: str) -> Json:
        """A condition by type; empty where there is none."""
        return next((one for one in self.status().get("conditions", ()) if one["type"] == kind), {})

    def pods(self, component: str = "runtime") -> list[Json]:
        """Its replicas' pods, those that are ending too; `component` prepare: the pods of its Jobs."""
        selector = f"llmservice.dev/name={self.name},llmservice.dev/component={component}"
        return self.api.list("pods", self.namespace, selector)

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = 90) -> Any:
        """wait_for() with a report about its namespace and the operator."""
        return wait_for(condition, f"{self.namespace}/{self.name}: {what}", seconds, self.report)

    def wait_condition(self, kind: str, status: str = "True", reason: str = "", seconds: float = 90) -> Json:
        """Until a condition has this status (and reason) and is about the spec as it is; the condition."""

        def holds() -> Json | None:
            now = self.object()
            conditions = now.get("status", {}).get("conditions", ())
            found: Json = next((one for one in conditions if one["type"] == kind), {})
            current = found.get("observedGeneration") == now["metadata"]["generation"]
            matches = found.get("status") == status and reason in ("", found.get("reason"))
            return found if current and matches else None

        waited: Json = self.wait(holds, f"{kind}={status} {reason}", seconds)
        return waited

    def wait_ready(self, replicas: int = 1, seconds: float = 120) -> Service:
        """Until it is Ready, and so many replicas run its current plan, and no other pod of it is left."""

        def holds() -> bool:
            now = self.object()
            status, pods = now.get("status", {}), self.pods()
            revisions = {pod["metadata"]["labels"]["llmservice.dev/revision"] for pod in pods}
            return (
                status.get("observedGeneration") == now["metadata"]["generation"]
                and any((one["type"], one["reason"]) == ("Ready", "Ready") for one in status["conditions"])
                and status.get("readyReplicas") == replicas == len(pods)
                and revisions == {status["currentRevision"]}
            )

        self.wait(holds, f"{replicas} ready", seconds)
        return self

    def report(self) -> str:
        """What there is to know, for a test that failed."""
        return report(self.api, self.namespace)
