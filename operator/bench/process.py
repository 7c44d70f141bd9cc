"""The operator as the process that it is in production, and what it costs."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

INSTALLATION = """
images: [{image: "runtime:1", engines: [LlamaCpp]}]
readNodes: true
"""
_SAMPLE = re.compile(r"^(\w+?)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


class Operator:
    """One `llmservice-operator`. Its log is in `log`."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self.log = log

    async def get(self, path: str) -> tuple[int, str]:
        """Status and text of one of its pages; status 0 while nothing listens."""
        try:
            async with aiohttp.ClientSession() as session, session.get(self.url + path) as response:
                return response.status, await response.text()
        except aiohttp.ClientError:
            return 0, ""

    async def metrics(self) -> dict[str, float]:
        """Samples by name, with labels as `name{a="b"}`."""
        _, text = await self.get("/metrics")
        found = (match.groups() for match in _SAMPLE.finditer(text))
        return {f"{name}{{{labels}}}" if labels else name: float(value) for name, labels, value in found}

    async def until(self, path: str, text: str, seconds: float = 60.0) -> str:
        """Wait until a page says `text`; the whole page."""
        async with asyncio.timeout(seconds):
            while text not in (page := (await self.get(path))[1]):
                if self.process.poll() is not None:
                    raise RuntimeError(f"the operator ended:\n{self.log.read_text()}")
                await asyncio.sleep(0.1)
        return page

    def cpu_seconds(self) -> float:
        """Used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_bytes(self) -> int:
        """The most memory it ever had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(found[1]) * 1024 if found else 0

    async def ended(self, seconds: float = 30.0) -> int:
        """Its exit code."""
        async with asyncio.timeout(seconds):
            while (code := self.process.poll()) is None:  # noqa: ASYNC110 - a process rings no bell
                await asyncio.sleep(0.05)
        return code


@asynccontextmanager
async def operator(
    kubeconfig: Path,
    folder: Path,
    *arguments: str,
    name: str = "operator",
    installation: str = INSTALLATION,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Operator]:
    """Start one and end it with the block; its files are in `folder`."""
    config, log = folder / f"{name}.yaml", folder / f"{name}.log"
    config.write_text(installation)
    port = free_port()
    program = Path(sys.executable).with_name("llmservice-operator")
    command = [program, f"--config={config}", f"--kubeconfig={kubeconfig}", f"--port={port}", "--host=127.0.0.1"]
    process = _start([*map(str, command), *arguments], log, {**os.environ, **(environment or {})})
    found = Operator(process, f"http://127.0.0.1:{port}", log)
    try:
        yield found
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                await found.ended()
            except TimeoutError:
                process.kill()
        process.wait()


def _start(command: list[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, env=environment)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
