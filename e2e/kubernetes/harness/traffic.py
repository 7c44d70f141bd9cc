"""Requests that never pause, from a pod, while something is done to the service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from harness.chat import PROGRAMS, Client
from harness.programs import kubectl, start_kubectl


@dataclass
class Traffic:
    """Filled when the traffic ended: requests sent, what failed, the longest one in seconds."""

    requests: int = 0
    failures: list[str] = field(default_factory=list)
    longest: float = 0.0


@contextmanager
def traffic(client: Client, url: str, streams: int = 3) -> Iterator[Traffic]:
    """So many streams at once, one after another, until the block ends; then what became of them."""
    client.wait()
    found = Traffic()
    process = start_kubectl(*client.words(url, str(streams)))
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write((PROGRAMS / "traffic.py").read_text())
        process.stdin.close()
        process.stdin = None
        if process.stdout.readline() != "going\n":
            raise AssertionError(f"the traffic did not begin: {process.communicate(timeout=30)[1][-2000:]}")
        yield found
        kubectl("--namespace", client.namespace, "exec", client.name, "--", "touch", "/tmp/stop")
        printed, complaints = process.communicate(timeout=90)
        assert process.returncode == 0, complaints
        vars(found).update(json.loads(printed.splitlines()[-1]))
    finally:
        process.kill()
        process.communicate()  # it closes the pipes too: else the next test fails for them
