"""Where everything stands and how it is addressed. Every name taken on the machine begins with `llms`."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent


def instance_number(text: str) -> int:
    """$E2E_INSTANCE: 0 (default) to 9. Others are clusters beside the first, for tests of the cluster itself."""
    if text not in ("", *"0123456789"):
        raise SystemExit(f"error: E2E_INSTANCE is {text}\nfix: use a digit, or unset it")
    return int(text or "0")


INSTANCE = instance_number(os.environ.get("E2E_INSTANCE", ""))
NAME = f"llms{INSTANCE or ''}"
CGROUP = NAME
"""Every process of the cluster lives below the control group of this name: teardown needs no other list."""
BRIDGE = f"llms{INSTANCE}"
HOST_IP = f"10.99.{INSTANCE}.1"
NODE_NETWORK = f"10.99.{INSTANCE}.0/24"
POD_NETWORK = f"10.{244 + INSTANCE}.0.0/16"
SERVICE_NETWORK = f"10.{96 - INSTANCE}.0.0/16"
FIRST_SERVICE_IP = f"10.{96 - INSTANCE}.0.1"
DNS_IP = f"10.{96 - INSTANCE}.0.10"
REGISTRY = f"{HOST_IP}:5000"


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


_STATES = Path("/var/lib")
STATE = State(_STATES / f"llmservice-cluster{INSTANCE or ''}")


def any_cluster() -> bool:
    """Whether one of any number is there."""
    return any(_STATES.glob("llmservice-cluster*"))
