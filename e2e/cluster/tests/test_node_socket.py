"""A node's kubelet is started when containerd takes connections, not when its socket's file is there."""

from __future__ import annotations

import socket
from pathlib import Path

from cluster.node import _listens


def test_a_file_that_nobody_listens_at_is_not_enough(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    assert not _listens(path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        assert not _listens(path), "it is bound, and does not listen yet"
        server.listen()
        assert _listens(path)
    assert Path(path).exists() and not _listens(path), "it was left behind"
