"""Prometheus as a process of this machine: it scrapes replicas and gateways as our PodMonitors say, by our rules."""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

from cluster import layout, programs
from cluster.console import wait_until
from cluster.controlplane import DAEMONS, ControlPlane
from cluster.layout import HERE, REPOSITORY, State
from cluster.processes import start, stop
from cluster.targets import JOBS

NAME = "prometheus"
PORT = 9090 + layout.INSTANCE
URL = f"http://{layout.HOST_IP}:{PORT}"
"""For pods, and for whoever develops on this machine."""
SCRAPE_SECONDS = 5
RULES = REPOSITORY / "charts" / "llmservice" / "files" / "rules.yaml"

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def up(plane: ControlPlane) -> None:
    """Start it, and who tells it of pods; wait until it answers."""
    state, folder = plane.state, plane.state.root / NAME
    folder.mkdir(parents=True, exist_ok=True)
    lister = ("env", f"PYTHONPATH={HERE.parent}", sys.executable, "-m", "cluster.targets")
    start(state, "targets", [*lister, plane.server, state.pki, folder], DAEMONS)
    file = folder / "prometheus.yaml"
    file.write_text(json.dumps(configuration(folder), indent=2))  # JSON is YAML
    command = (
        programs.prometheus() / "prometheus",
        f"--config.file={file}",
        f"--web.listen-address={layout.HOST_IP}:{PORT}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--storage.tsdb.retention.time=1h",
    )
    start(state, NAME, command, DAEMONS)
    wait_until(ready, "Prometheus", 60, state.log(NAME))


def down(state: State) -> None:
    """Stop it; what it knows stays."""
    stop(state, NAME)


def ready() -> bool:
    """Whether it answers questions."""
    try:
        with _direct.open(f"{URL}/-/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def configuration(folder: Path) -> dict[str, Any]:
    """Its configuration. `folder`: where it is told of pods."""
    return {
        "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": f"{SCRAPE_SECONDS}s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {"job_name": job.name, "file_sd_configs": [{"files": [str(folder / f"{job.name}.json")]}]} for job in JOBS
        ],
    }
