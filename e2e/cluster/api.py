"""The API-only cluster for tests: etcd and an API server on loopback, no nodes, no root, no distribution packages.

with api_only(folder) as kubeconfig: ...
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster import programs
from cluster.controlplane import loopback, start_api
from cluster.layout import State
from cluster.processes import stop


def api_up(folder: Path) -> Path:
    """Start in an empty folder; the administrator's kubeconfig."""
    state = State(folder.absolute())
    if not state.kubeconfig.exists():
        start_api(loopback(state, programs.kube()))
    return state.kubeconfig


def api_down(folder: Path) -> None:
    """Stop what `api_up` started there. The folder is the caller's to remove."""
    state = State(folder.absolute())
    for name in ("apiserver", "etcd"):
        stop(state, name)


@contextmanager
def api_only(folder: Path) -> Iterator[Path]:
    """An API server for the length of a block."""
    try:
        yield api_up(folder)
    finally:
        api_down(folder)
