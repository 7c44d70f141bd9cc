"""kubectl, helm and make as a user runs them, on the cluster that E2E_PROVIDER names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.main import kubeconfig, provider

ROOT = Path(__file__).resolve().parents[3]
CLUSTER = ROOT / "e2e" / "cluster" / "cluster"
PROVIDER = provider()


class Failed(AssertionError):
    """A program ended with another code than 0; its text has what it printed."""


def run(*words: str | Path, stdin: str = "", seconds: float = 120) -> str:
    """Run a program in the repository to its end; its output. Raises Failed, or TimeoutExpired."""
    done = subprocess.run(
        words, input=stdin, capture_output=True, text=True, timeout=seconds, cwd=ROOT, env=environment()
    )
    if done.returncode:
        raise Failed(f"{' '.join(map(str, words))}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def kubectl(*words: str | Path, stdin: str = "", seconds: float = 120) -> str:
    """`kubectl WORDS`; its output."""
    return run(sys.executable, CLUSTER, "kubectl", *words, stdin=stdin, seconds=seconds)


def helm(*words: str | Path, stdin: str = "", seconds: float = 300) -> str:
    """`helm WORDS`; its output."""
    return run(sys.executable, CLUSTER, "helm", *words, stdin=stdin, seconds=seconds)


def start_kubectl(*words: str | Path) -> subprocess.Popen[str]:
    """`kubectl WORDS` that goes on: a port-forward, a watch. Its standard output is a pipe; end it by terminate()."""
    return subprocess.Popen(
        [sys.executable, CLUSTER, "kubectl", *words],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def forwarded(namespace: str, what: str, port: int = 80) -> Iterator[str]:
    """The URL here at which `kubectl port-forward` serves a port of a Service, or of `pod/NAME`."""
    target = what if "/" in what else f"service/{what}"
    forward = start_kubectl("--namespace", namespace, "port-forward", target, f":{port}")
    try:
        assert forward.stdout is not None
        found = re.search(r"127\.0\.0\.1:\d+", line := forward.stdout.readline())
        assert found, line
        yield f"http://{found[0]}"
    finally:
        forward.terminate()
        forward.communicate()


def environment() -> dict[str, str]:
    """Of every program: the cluster's kubeconfig; ~/.kube/config is never read."""
    return {**os.environ, "KUBECONFIG": str(kubeconfig(PROVIDER)), "E2E_PROVIDER": PROVIDER}
