"""The batch's event loop: so many lines at a time, each answer written as it comes, progress told meanwhile."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from llmservice_cli.batch.asking import Answer, Asker, GoneError
from llmservice_cli.batch.lines import BadLine, Batch, Line
from llmservice_cli.batch.progress import Progress
from llmservice_cli.batch.results import Results
from llmservice_cli.batch.tally import Tally

CONNECT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Where:
    """What is asked: a base URL, and an API key where it takes one."""

    url: str
    key: str = ""


async def work(batch: Batch, results: Results, tally: Tally, where: Where, at_once: int) -> bool:
    """Ask what is not answered; False = it was interrupted. UserError where it can't go on."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        progress = Progress(tally, sys.stderr)
        asker = Asker(session, where.url, where.key, progress.waits)
        lines = (line for line in batch.lines() if line.number not in results.done)
        gone: dict[str, GoneError] = {}
        workers = [loop.create_task(_worker(lines, asker, results, tally, gone)) for _ in range(at_once)]
        ended: asyncio.Task[Any] = loop.create_task(stop.wait())
        telling = loop.create_task(progress.run())
        try:
            left: set[asyncio.Task[Any]] = set(workers)
            while left:
                done, _ = await asyncio.wait(left | {ended}, return_when=asyncio.FIRST_COMPLETED)
                if ended in done:
                    return False
                for worker in left & done:
                    worker.result()
                left -= done
            for error in gone.values():
                raise error
            return True
        finally:
            for task in (*workers, ended, telling):
                task.cancel()
            await asyncio.gather(*workers, ended, telling, return_exceptions=True)
            progress.end()


async def _worker(
    lines: Iterator[Line | BadLine], asker: Asker, results: Results, tally: Tally, gone: dict[str, GoneError]
) -> None:
    """`gone`: why a model is asked no more, for all workers. Its lines are left for the next time, and others asked."""
    for line in lines:
        if isinstance(line, BadLine):
            result = result_of(line, Answer(error="invalid_line", message=line.reason))
            await asyncio.sleep(0)
        elif line.body["model"] in gone:
            continue
        else:
            try:
                result = result_of(line, await asker.ask(line))
            except GoneError as error:
                gone.setdefault(line.body["model"], error)
                continue
        results.add(result)
        tally.add(line.number, result)


def result_of(line: Line | BadLine, answer: Answer) -> Mapping[str, Any]:
    """A line of the output, as OpenAI's."""
    response = {"status_code": answer.status, "request_id": answer.request_id, "body": answer.body}
    return {
        "id": line.name,
        "custom_id": line.custom_id,
        "response": None if answer.error else response,
        "error": {"code": answer.error, "message": answer.message} if answer.error else None,
    }
