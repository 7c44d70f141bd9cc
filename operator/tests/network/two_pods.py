"""Two network namespaces with a cable between them: a pod's and a client's, of one address family only."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

IP = shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin")
POD = {6: "fd00:11::1", 4: "10.11.0.1"}
CLIENT = {6: "fd00:11::2", 4: "10.11.0.2"}
LENGTH = {6: 64, 4: 24}


@dataclass(frozen=True)
class Cable:
    """`pod` and `client` are namespaces; `host` is the pod's address as a URL spells it."""

    family: int
    pod: str
    client: str

    @property
    def host(self) -> str:
        return f"[{POD[6]}]" if self.family == 6 else POD[4]

    def in_pod(self, *command: str) -> list[str]:
        assert IP is not None
        return [IP, "netns", "exec", self.pod, *command]

    def in_client(self, *command: str) -> list[str]:
        assert IP is not None
        return [IP, "netns", "exec", self.client, *command]


def ip(*arguments: str) -> None:
    assert IP is not None
    subprocess.run([IP, *arguments], check=True, capture_output=True, text=True)
