"""Where everything stands and how it is addressed. One bare cluster per machine; its names begin with `llms`."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent

BRIDGE = "llms0"
HOST_IP = "10.99.0.1"
NODE_NETWORK = "10.99.0.0/24"
POD_NETWORK = "10.244.0.0/16"
SERVICE_NETWORK = "10.96.0.0/16"
FIRST_SERVICE_IP = "10.96.0.1"
DNS_IP = "10.96.0.10"
REGISTRY = f"{HOST_IP}:5000"
CGROUP = "llms"
"""Every process of the cluster lives below the control group of this name: teardown needs no other list."""


def cache() -> Path:
    """LLMSERVICE_CACHE_DIR, XDG_CACHE_HOME/llmservice or ~/.cache/llmservice, and there `cluster`."""
    if folder := os.environ.get("LLMSERVICE_CACHE_DIR"):
        return Path(folder).expanduser().absolute() / "cluster"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmservice" / "cluster"


def digest_of(*parts: str | bytes | Path) -> str:
    """A short name for what a cached thing was made from. A path stands for the file's content."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class State:
    """The folder of a running cluster: certificates, logs, pid files and the nodes' disks. Removed by `down`."""

    root: Path

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def kubeconfig(self) -> Path:
        return self.pki / "admin.kubeconfig"

    @property
    def places(self) -> Path:
        """Notes of the empty folders that were made outside."""
        return self.root / "places"

    @property
    def forwarding(self) -> Path:
        """What net.ipv4.ip_forward was before."""
        return self.root / "ip_forward"

    def log(self, name: str) -> Path:
        return self.root / "log" / f"{name}.log"

    def pid(self, name: str) -> Path:
        return self.root / "run" / f"{name}.pid"


STATE = State(Path("/var/lib/llmservice-cluster"))
