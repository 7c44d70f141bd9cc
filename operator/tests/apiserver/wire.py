"""A connection to the API server that can be cut: for faults of the network, and before kopf ends.

kopf's loop does not wait for the goodbyes of its connections over TLS; those that are cut need none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import yaml


class Wire:
    """A connection to `port` of this machine that can be cut and mended."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.whole = True
        self._open: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Break what is open, and take nothing new."""
        self.whole = False
        for writer in self._open:
            writer.close()

    async def through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Both ways, until one of the two hangs up."""
        self._open.add(writer)
        try:
            if self.whole:
                there, back = await asyncio.open_connection("127.0.0.1", self.port)
                self._open.add(back)
                ways = [asyncio.create_task(_pump(reader, back)), asyncio.create_task(_pump(there, writer))]
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                for way in ways:
                    way.cancel()
                await asyncio.wait(ways)
                back.close()
                self._open.discard(back)
        except ConnectionError:
            pass
        finally:
            writer.close()
            self._open.discard(writer)


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
    except ConnectionError:
        pass


@asynccontextmanager
async def wire(kubeconfig: Path, folder: Path) -> AsyncIterator[tuple[Wire, Path]]:
    """The wire to the API server of a kubeconfig, and a kubeconfig that goes through it."""
    content = yaml.safe_load(kubeconfig.read_text())  # noqa: ASYNC240 - a small local file
    cluster = content["clusters"][0]["cluster"]
    line = Wire(urlsplit(cluster["server"]).port or 443)
    server = await asyncio.start_server(line.through, "127.0.0.1", 0)
    cluster["server"] = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    (folder / "wire.kubeconfig").write_text(yaml.safe_dump(content))
    try:
        yield line, folder / "wire.kubeconfig"
    finally:
        server.close()
        line.cut()
