"""Where all instances of one user meet on this machine, whatever their state folders are."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path

from llmservice_cli.places import STATE_ENV, Places

RUNTIME_ENV = "XDG_RUNTIME_DIR"


def shared_folder(environ: Mapping[str, str] | None = None, runtimes: Path = Path("/run/user")) -> Path:
    """The session's folder ($XDG_RUNTIME_DIR, /run/user/UID), else one in the user's state folder.

    /tmp is the last resort: files that nobody touches for days are removed there, and a replica runs longer.
    """
    env, user = os.environ if environ is None else environ, os.getuid()
    for session in (env.get(RUNTIME_ENV), runtimes / str(user)):
        if session and _own(Path(session)):
            return Path(session) / f"llmservice-{user}"
    home = Places.from_environment({name: value for name, value in env.items() if name != STATE_ENV}).state
    here = home / f"instances-{socket.gethostname()}"  # a home may be on several machines
    try:
        here.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.gettempdir()) / f"llmservice-{user}"
    return here


def _own(folder: Path) -> bool:
    try:
        return folder.is_dir() and folder.stat().st_uid == os.getuid()
    except OSError:
        return False
