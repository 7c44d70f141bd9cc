"""Tells Prometheus which pods to scrape, as a process beside it: the distribution's knows no Kubernetes."""

from __future__ import annotations

import json
import ssl
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]
LOOK_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Job:
    """Pods with a label, in all namespaces, and the name of the port that they tell on."""

    name: str
    selector: str
    port: str


JOBS = (
    Job("replicas", "llmservice.dev/component=runtime", "http"),
    Job("gateways", "app.kubernetes.io/component=gateway", "internal"),
)
"""What the PodMonitors of operator and chart say."""
LABELS = {"llmservice.dev/name": "llmservice_dev_name"}
"""Of pods, that series have too (podTargetLabels)."""


def targets(pods: Sequence[Json], port: str) -> Iterator[Json]:
    """As Prometheus reads them from a file (file_sd): one for each container that has the port."""
    for pod in pods:
        address, metadata = pod["status"].get("podIP"), pod["metadata"]
        if not address or pod["status"].get("phase") in ("Succeeded", "Failed"):
            continue
        known = {"namespace": metadata["namespace"], "pod": metadata["name"]}
        known |= {label: text for name, label in LABELS.items() if (text := metadata.get("labels", {}).get(name))}
        for container in pod["spec"]["containers"]:
            for one in container.get("ports", ()):
                if one.get("name") == port:
                    at = f"{address}:{one['containerPort']}"
                    yield {"targets": [at], "labels": {**known, "container": container["name"]}}


def main(server: str, certificates: Path, folder: Path) -> None:
    """Keep folder/JOB.json for each job; what was known last stays while the API server is away."""
    context = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
    context.load_cert_chain(certificates / "admin.crt", certificates / "admin.key")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    while True:
        for job in JOBS:
            query = urllib.parse.urlencode({"labelSelector": job.selector})
            try:
                with opener.open(f"{server}/api/v1/pods?{query}", timeout=10) as answer:
                    found = list(targets(json.load(answer)["items"], job.port))
            except (OSError, ValueError) as error:
                print(f"{job.name}: {error}", flush=True)
                continue
            _write(folder / f"{job.name}.json", json.dumps(found))
        time.sleep(LOOK_SECONDS)


def _write(file: Path, text: str) -> None:
    """Whole or not at all, and only what is new: Prometheus reads the file when it changes."""
    if not file.exists() or file.read_text() != text:
        half = file.with_suffix(".half")
        half.write_text(text)
        half.replace(file)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
