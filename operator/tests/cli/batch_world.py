"""A server that answers as it is told to, and `llmservice batch` against it as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from aiohttp import web

from llmservice_runtime.wire.server import ApiRunner

CLI = (sys.executable, "-c", "import sys; from llmservice_cli.entry import run; sys.exit(run())")
CHAT = "/v1/chat/completions"
Reply = Callable[[str], Awaitable[web.StreamResponse]]
"""custom_id -> what is answered."""


def line(custom_id: str, **fields: Any) -> str:
    """A request; the server reads its custom_id in the body."""
    body = {"model": "demo", "user": custom_id}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body, **fields})


async def fine(custom_id: str) -> web.Response:
    """An answer."""
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    return web.json_response({"object": "chat.completion", "said": custom_id, "usage": usage})


class Server:
    """`seen` are the custom_ids of requests in the order in which they came, `headers` of the last one."""

    def __init__(self) -> None:
        self.reply: Reply = fine
        self.seen: list[str] = []
        self.headers: Mapping[str, str] = {}
        self.came = asyncio.Condition()
        self.url = ""

    async def open(self, stack: AsyncExitStack) -> None:
        """Listen."""
        app = web.Application()
        app.router.add_post(CHAT, self._answer)
        runner = ApiRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"

    async def have(self, count: int) -> None:
        """Wait until so many came."""
        async with asyncio.timeout(30), self.came:
            await self.came.wait_for(lambda: len(self.seen) >= count)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        custom_id = json.loads(await request.read())["user"]
        self.headers = dict(request.headers)
        async with self.came:
            self.seen.append(custom_id)
            self.came.notify_all()
        return await self.reply(custom_id)


class Desk:
    """A folder with a batch in it, and a server to ask."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder = folder
        self.server = server
        self.input, self.out = folder / "in.jsonl", folder / "out.jsonl"
        self.env = {**os.environ, "LLMSERVICE_STATE_DIR": str(folder / "state"), "OPENAI_API_KEY": "secret"}

    def write(self, lines: Iterable[str]) -> None:
        """The batch."""
        self.input.write_text("".join(f"{text}\n" for text in lines))

    @property
    def results(self) -> list[Any]:
        """What the output has."""
        return [json.loads(text) for text in self.out.read_text().splitlines()]

    @property
    def by_id(self) -> dict[str, Any]:
        """The same by custom_id; each stands once."""
        results = self.results
        found = {result["custom_id"]: result for result in results}
        assert len(found) == len(results)
        return found

    async def begin(self, *words: str, limit: Callable[[], None] | None = None) -> asyncio.subprocess.Process:
        """The command, running."""
        return await asyncio.create_subprocess_exec(
            *CLI, "batch", str(self.input), "-o", str(self.out), *(words or ("--url", self.server.url)),
            env=self.env, cwd=self.folder, preexec_fn=limit,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip

    async def run(self, *words: str, code: int = 0, limit: Callable[[], None] | None = None) -> str:
        """The command to its end; what it printed."""
        return await self.end(await self.begin("--url", self.server.url, *words, limit=limit), code)

    async def end(self, process: asyncio.subprocess.Process, code: int) -> str:
        """The end of one; what it printed."""
        async with asyncio.timeout(60):
            said, _ = await process.communicate()
        text = said.decode()
        assert process.returncode == code and "Traceback" not in text, text
        return text
