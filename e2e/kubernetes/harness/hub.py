"""A model hub of our own in the cluster: ../client/hub.py in a pod, behind the Service `hub`."""

from __future__ import annotations

import base64
from pathlib import Path

from harness.api import Api, path
from harness.chat import PROGRAMS
from harness.programs import kubectl
from harness.report import report
from harness.wait import wait_for

NAME = "hub"


def start_hub(api: Api, namespace: str, image: str) -> str:
    """Start it with the runtime's image, and wait until it answers; its URL within the cluster."""
    program = (PROGRAMS / "hub.py").read_text()
    api.create("configmaps", namespace, {"metadata": {"name": NAME}, "data": {"hub.py": program}})
    container = {
        "name": NAME,
        "image": image,
        "command": ["python3", "/hub/hub.py"],
        "readinessProbe": {"httpGet": {"path": "/demo.gguf", "port": 8000}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
        "volumeMounts": [{"name": NAME, "mountPath": "/hub"}, {"name": "given", "mountPath": "/given"}],
    }
    spec = {
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [{"name": NAME, "configMap": {"name": NAME}}, {"name": "given", "emptyDir": {}}],
    }
    api.create("pods", namespace, {"metadata": {"name": NAME, "labels": {"app": NAME}}, "spec": spec})
    port = {"port": 80, "targetPort": 8000}
    api.create(
        "services", namespace, {"metadata": {"name": NAME}, "spec": {"selector": {"app": NAME}, "ports": [port]}}
    )

    def ready() -> bool:
        conditions = api.get("pods", namespace, NAME)["status"].get("conditions", ())
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    wait_for(ready, "the hub answers", 240, lambda: f"{path('pods', namespace, NAME)}\n{report(api, namespace)}")
    return f"http://{NAME}.{namespace}"


def give(namespace: str, file: Path) -> None:
    """Let the hub have a file, under its name. Before it is asked for it: what it lacks it remembers."""
    text = base64.b64encode(file.read_bytes()).decode()
    put = f"base64 -d > /given/{file.name}"
    kubectl("--namespace", namespace, "exec", "-i", NAME, "--", "sh", "-c", put, stdin=text)
