"""Removal without a trace, from any state: what is there goes, what is not is no error, twice is as good as once."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from cluster import network, processes
from cluster.console import stage
from cluster.layout import State, cache


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
    _release_storage()


def _release_storage() -> None:
    """buildah leaves its storage mounted. A mount in use belongs to a build that is running, and stays with it."""
    storage = str(cache() / "images") + "/"
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for point in reversed(points):
        if point.startswith(storage) and subprocess.run(["umount", point], capture_output=True).returncode != 0:
            print(f"    {point} is in use by a build and stays mounted")


def _remove_places(state: State) -> None:
    """The empty folders that were made outside to mount on, the inner ones first."""
    noted = state.places.read_text().splitlines() if state.places.exists() else []
    for folder in map(Path, reversed(noted)):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
