"""What the cluster's Prometheus scrapes: what our PodMonitors say, and in a way that it takes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from cluster import programs, prometheus
from cluster.console import run
from cluster.targets import JOBS, LABELS, Job, targets
from llmservice_api.labels import RUNTIME
from llmservice_operator.children.pod_monitor import pod_monitor
from llmservice_operator.facts.config import Monitoring
from llmservice_operator.facts.owner import Json, Owner

OWNER = Owner("qwen", "apps", "1")
REPLICAS, GATEWAYS = JOBS


def says(monitor: Json, job: Job, labels: dict[str, str]) -> bool:
    """Whether a PodMonitor has pods with these labels scraped as a job has it."""
    (endpoint,) = monitor["podMetricsEndpoints"]
    name, _, value = job.selector.partition("=")
    both = labels.get(name) == value and monitor["selector"]["matchLabels"].items() <= labels.items()
    return both and (endpoint["port"], endpoint["path"]) == (job.port, "/metrics")


def test_it_scrapes_replicas_as_their_pod_monitor_says() -> None:
    monitor = pod_monitor(OWNER, Monitoring(5, ()))["spec"]
    assert says(monitor, REPLICAS, OWNER.labels(RUNTIME))
    assert {label: re.sub(r"\W", "_", label) for label in monitor["podTargetLabels"]} == LABELS


def test_it_scrapes_gateways_as_the_chart_says() -> None:
    words = ("--namespace", "llm", "--kube-version", "1.30.0", "--set", "monitoring.enabled=true")
    chart = prometheus.RULES.parent.parent

    def shown(name: str) -> Json:
        text = run(programs.helm(), "template", "llm", chart, *words, f"--show-only=templates/gateway/{name}.yaml")
        found: Json = next(one for one in yaml.safe_load_all(text) if one)["spec"]
        return found

    pods = shown("deployment")["template"]
    assert says(shown("podmonitor"), GATEWAYS, pods["metadata"]["labels"])
    assert GATEWAYS.port in {one["name"] for one in pods["spec"]["containers"][0]["ports"]}


def test_pods_that_can_be_scraped_are_told_of_with_their_names() -> None:
    ports = [{"name": "http", "containerPort": 8000}, {"name": "supervisor", "containerPort": 8001}]
    spec = {"containers": [{"name": "runtime", "ports": ports}, {"name": "sidecar"}]}
    metadata = {"namespace": "apps", "name": "qwen-1", "labels": OWNER.labels(RUNTIME)}
    running, new, ended = (
        {"metadata": metadata, "spec": spec, "status": status}
        for status in ({"phase": "Running", "podIP": "10.0.0.1"}, {}, {"phase": "Failed", "podIP": "10.0.0.2"})
    )
    labels = {"namespace": "apps", "pod": "qwen-1", "container": "runtime", "llmservice_dev_name": "qwen"}
    assert list(targets([running, new, ended], "http")) == [{"targets": ["10.0.0.1:8000"], "labels": labels}]


def test_promtool_takes_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "prometheus.yaml"
    file.write_text(json.dumps(prometheus.configuration(tmp_path)))
    for job in JOBS:
        (tmp_path / f"{job.name}.json").write_text("[]")
    assert "rules found" in run(programs.prometheus() / "promtool", "check", "config", file)
