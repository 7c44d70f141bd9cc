"""A scripted engine in the place of a real one: reports, answers and fails as spec.engine.env tells it.

WORDS and DELAY (seconds) shape the stream; FAIL names a failure class to end with at load;
SAY is its words, or TELL names the variable that has them;
it loads until there is a file HOLD, and an answer does not end until there is a file ENOUGH.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

WORDS, DELAY = int(os.environ.get("WORDS", "3")), float(os.environ.get("DELAY", "0"))
SAY = os.environ.get(os.environ.get("TELL", "SAY"), "word")
HOLD, ENOUGH = (Path(os.environ[name]) if name in os.environ else None for name in ("HOLD", "ENOUGH"))


def report(**body: Any) -> None:
    os.write(int(os.environ["LLMSERVICE_REPORT_FD"]), json.dumps(body).encode() + b"\n")


async def chat(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for n in range(WORDS):
        chunk = {"choices": [{"index": 0, "delta": {"content": f"{SAY}{n} "}}]}
        await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
        await asyncio.sleep(DELAY)
    while ENOUGH and not ENOUGH.exists():  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    await response.write(b"data: [DONE]\n\n")
    return response


async def health(_: web.Request) -> web.Response:
    return web.Response()


async def main(settings: dict[str, Any]) -> None:
    report(kind="phase", phase="Loading", progress=0.5, detail="")
    if failure := os.environ.get("FAIL"):
        report(kind="failure", failure=failure, message="it was told to", remedy="tell it otherwise")
        sys.exit(3)
    while HOLD and not HOLD.exists():  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    app = web.Application()
    app.add_routes([web.post("/v1/chat/completions", chat), web.get("/health", health)])
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=settings.get("drain_seconds", 10))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", settings["port"]).start()
    report(kind="ready", port=runner.addresses[0][1], load_seconds=0.1)
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    await end.wait()
    await runner.cleanup()


asyncio.run(main(json.loads(Path(sys.argv[sys.argv.index("--settings") + 1]).read_text())))
