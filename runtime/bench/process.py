"""Server processes under measurement: until they answer, and until they are gone."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

LOOK_SECONDS = 0.02


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_ready(url: str, process: subprocess.Popen[bytes], seconds: float = 600) -> None:
    """Return when `url` answers 200; SystemExit when the process ends or the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"error: {process.args!r} ended with {process.returncode}")
        if _is_well(url):
            return
        time.sleep(LOOK_SECONDS)
    raise SystemExit(f"error: {url} did not answer within {seconds:.0f} s")


def _is_well(url: str) -> bool:
    """One look costs less than a millisecond: what starts has the processor (a client of httpx's takes 20)."""
    where = urlsplit(url)
    connection = HTTPConnection(where.hostname or "", where.port, timeout=2)
    with contextlib.closing(connection), contextlib.suppress(OSError, HTTPException):
        connection.request("GET", where.path)
        return connection.getresponse().status == 200
    return False


@contextlib.contextmanager
def running(command: Sequence[str], ready: str, env: Mapping[str, str] | None = None) -> Iterator[None]:
    """The server of this command, from the first 200 of its `ready` URL to its end. What a failed one wrote is told."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=env)
        try:
            wait_ready(ready, process)
            yield
        except SystemExit:
            print(Path(log.name).read_text(errors="replace")[-4000:])
            raise
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
