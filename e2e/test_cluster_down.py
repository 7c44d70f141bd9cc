"""`cluster up`, killed anywhere, then `cluster down`: nothing of it is left here. Another cluster may run meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

CLUSTER = Path(__file__).parent / "cluster" / "cluster"
INSTANCE = "9"
STATE = Path(f"/var/lib/llmservice-cluster{INSTANCE}")
ENVIRONMENT = {**os.environ, "E2E_INSTANCE": INSTANCE, "E2E_PROVIDER": "bare"}
STAGES = ("control plane", "names, volumes and metrics", "node1 at", "node2 at", "nodes ready")
"""What `up` prints when it begins a part. It is killed a moment after."""

pytestmark = pytest.mark.skipif(
    os.environ.get("E2E_PROVIDER", "bare") != "bare" or os.geteuid() != 0, reason="tests the bare provider, as root"
)


def cluster(*words: str) -> str:
    """Run a command of the cluster to its end; its output."""
    done = subprocess.run(
        [sys.executable, CLUSTER, *words], env=ENVIRONMENT, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def traces() -> set[str]:
    """What of this instance is on the machine: processes, mounts, interfaces, routes, namespaces, groups, folders."""
    found = {
        f"route {route['dst']}" for route in ip("route") if route["dst"].startswith(("10.99.9.", "10.253.", "10.87."))
    }
    found |= {f"link {link['ifname']}" for link in ip("link") if link["ifname"].startswith(f"llms{INSTANCE}")}
    found |= {f"group {folder}" for folder in Path("/sys/fs/cgroup").glob(f"*/llms{INSTANCE}*")}
    found |= {f"mount {line}" for line in Path("/proc/mounts").read_text().splitlines() if str(STATE) in line}
    found |= {f"folder {STATE}" for _ in range(STATE.exists())}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, groups = (folder / "cmdline").read_bytes(), (folder / "cgroup").read_text()
        except OSError:  # ended while we looked
            continue
        if command and (f"/llms{INSTANCE}" in groups or os.fsencode(STATE) in command):  # a dead one has no command
            found.add(f"process {folder.name} {command!r}")
    return found


def ip(what: str) -> list[dict[str, str]]:
    """Interfaces or routes of the machine."""
    output = subprocess.run(["ip", "-json", what, "show"], capture_output=True, text=True, check=True).stdout
    rows: list[dict[str, str]] = json.loads(output)
    return rows


def rules() -> str:
    """The machine's packet filter, without counters."""
    save = shutil.which("iptables-save")
    return subprocess.run([save], capture_output=True, text=True, check=True).stdout if save else ""


def killed_at(stage: str) -> None:
    """Start `up` and kill it, and nothing else, a moment after it has begun a stage."""
    with subprocess.Popen([sys.executable, CLUSTER, "up"], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        begun = any(line.startswith(f"==> {stage}") for line in child.stdout)
        time.sleep(0.3)
        child.send_signal(signal.SIGKILL)
        assert begun, f"up never came to: {stage}"


@pytest.fixture(autouse=True)
def removed() -> Iterator[None]:
    """Begin and end with none."""
    cluster("down")
    yield
    cluster("down")


@pytest.mark.parametrize("stage", STAGES)
def test_killed_anywhere_it_leaves_nothing(stage: str) -> None:
    assert traces() == set()
    killed_at(stage)
    assert traces()
    cluster("down")
    assert traces() == set()


def test_up_goes_on_where_it_was_killed_and_down_removes_what_ran() -> None:
    forwarding = Path("/proc/sys/net/ipv4/ip_forward")
    before, filters = forwarding.read_text(), rules()
    killed_at("node2 at")
    cluster("up")
    assert cluster("kubectl", "get", "nodes", "--no-headers").count(" Ready ") == 2
    cluster("kubectl", "run", "sleeper", f"--image={base_image()}", "--restart=Never", "--", "sleep", "3600")
    cluster("kubectl", "wait", "--for=condition=Ready", "pod/sleeper", "--timeout=120s")
    cluster("down")
    assert traces() == set()
    assert (forwarding.read_text(), rules()) == (before, filters)
    cluster("down")  # twice is as good as once


def base_image() -> str:
    """An image that the cluster's registry has, as its own volume helper names it."""
    text = cluster("kubectl", "-n", "local-path-storage", "get", "configmap", "local-path-config", "-o", "yaml")
    return next(word.strip("\"'{}[],") for word in text.split() if "llmservice-base" in word)
