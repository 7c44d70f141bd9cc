"""The cable between two pods, for each address family."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from two_pods import CLIENT, IP, LENGTH, POD, Cable, ip  # type: ignore[import-not-found]


@pytest.fixture(params=[6, 4], ids=["ipv6", "ipv4"])
def cable(request: pytest.FixtureRequest) -> Iterator[Cable]:
    family: int = request.param
    name = uuid.uuid4().hex[:6]
    pod, client = f"llms-{name}-p", f"llms-{name}-c"
    if IP is None:
        pytest.skip("there is no ip command")
    try:
        ip("netns", "add", pod)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces can't be made here: {error.stderr.strip()}")
    try:
        ip("netns", "add", client)
        ip("link", "add", f"v{name}p", "netns", pod, "type", "veth", "peer", "name", f"v{name}c", "netns", client)
        for namespace, device, addresses in ((pod, f"v{name}p", POD), (client, f"v{name}c", CLIENT)):
            inside = ("-n", namespace)
            ip(*inside, "link", "set", "lo", "up")
            if family == 6:  # not even a loopback of the other family
                ip(*inside, "addr", "flush", "dev", "lo", "scope", "host")
                ip(*inside, "addr", "add", "::1/128", "dev", "lo")
            else:
                off = "net.ipv6.conf.all.disable_ipv6=1"
                ip("netns", "exec", namespace, "sysctl", "-qw", off)
            extra = ("nodad",) if family == 6 else ()
            ip(*inside, "addr", "add", f"{addresses[family]}/{LENGTH[family]}", "dev", device, *extra)
            ip(*inside, "link", "set", device, "up")
        yield Cable(family, pod, client)
    finally:
        for namespace in (pod, client):
            subprocess.run([IP, "netns", "del", namespace], check=False, capture_output=True)
