"""A user that a cluster chose, without an entry, on a read-only root: as in a container of OpenShift."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from llmservice_runtime.contract.engines import EngineType

from .api import Api
from .replica import Replica

USER, GROUP = 1000800000, 0
CONTAINER = """
mount --bind "$1" "$1"
mount -o remount,bind,ro /
folder=$1 user=$2 group=$3
shift 3
if touch /written 2>/dev/null; then echo "the root can be written" >&2; exit 1; fi
# Engines may lie in somebody's closed folder here, which they don't in an image: so it may read.
exec setpriv --reuid "$user" --regid "$group" --clear-groups --inh-caps=-all,+dac_read_search \\
    --ambient-caps=-all,+dac_read_search env -i PATH=/usr/bin:/bin HOME="$folder" TMPDIR="$folder" "$@"
"""
"""What the kubelet does, in a mount namespace: one folder can be written, where home is and temporary files are."""


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder of theirs; those of pytest are closed to others."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.chown(folder, USER, GROUP)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, on a root that it mounts")
def test_a_user_without_a_name_on_a_read_only_root(engine: EngineType, home: Path) -> None:
    before = ("unshare", "--mount", "sh", "-ec", CONTAINER, "container", str(home), str(USER), str(GROUP))
    replica = Replica(home, engine, before=before, compiled=str(home / "compiled"))
    try:
        replica.wait_ready()
        assert Path(f"/proc/{replica.computing()}").stat().st_uid == USER
        assert Api(replica.url).say()
        assert set(made_in(home)) <= {"compiled"}, "what is kept has a place of its own, which may be a volume"
    finally:
        replica.stop()


def made_in(home: Path) -> Iterator[str]:
    """Folders that the user made there; sockets and what a file says to other processes go with these."""
    for entry in home.iterdir():
        if entry.is_dir() and entry.stat().st_uid == USER:
            yield entry.name
