"""Removal without a trace, from any state: what is there goes, what is not is no error, twice is as good as once."""

from __future__ import annotations

import shutil
from pathlib import Path

from cluster import network, processes
from cluster.console import stage
from cluster.layout import State


def down(state: State) -> None:
    """Processes by control group, so that none escapes by its name; the nodes' mounts and interfaces end with them."""
    with stage("end every process of the cluster"):
        processes.kill_members()
        processes.remove_cgroups()
    with stage("remove the network and the nodes' disks"):
        network.down(state)
        _remove_places(state)
        if state.root.exists():
            shutil.rmtree(state.root)


def _remove_places(state: State) -> None:
    """The empty folders that were made outside to mount on, the inner ones first."""
    noted = state.places.read_text().splitlines() if state.places.exists() else []
    for folder in map(Path, reversed(noted)):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
