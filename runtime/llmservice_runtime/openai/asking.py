"""Asking a worker from an event loop, without a thread: on a busy machine it takes milliseconds to be woken."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

from llmservice_runtime.openai.worker import SIZES, KilledError, Worker, frame


class BusyError(Exception):
    """The worker is asked something else, or has no process (any more)."""


async def ask_idle(worker: Worker, question: Any, seconds: float, first: Any = None) -> Any:
    """As `Worker.ask`; BusyError where that would not ask at once. A caller that is cancelled waits for no answer."""
    data = frame([seconds, question])
    connection = worker.claim(first)
    if connection is None:
        raise BusyError
    return await asyncio.shield(_exchange(worker, connection, data, seconds))


async def _exchange(worker: Worker, connection: socket.socket, data: bytes, seconds: float) -> Any:
    loop = asyncio.get_running_loop()
    try:
        connection.setblocking(False)
        async with asyncio.timeout(seconds):
            await loop.sock_sendall(connection, data)
            size, _ = SIZES.unpack(await _exactly(loop, connection, SIZES.size))
            answer = json.loads(await _exactly(loop, connection, size))
    except OSError as error:
        lost = await loop.run_in_executor(None, worker.release, error, seconds)
        if isinstance(lost, KilledError):
            raise BusyError from error  # another process is to be asked
        raise (lost or error) from error
    except BaseException as error:  # the loop ends: nobody else may get this answer
        worker.release(error, seconds)
        raise
    worker.release()
    return answer


async def _exactly(loop: asyncio.AbstractEventLoop, connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        if not (more := await loop.sock_recv(connection, min(size - len(data), 1 << 20))):
            raise ConnectionResetError
        data += more
    return bytes(data)
