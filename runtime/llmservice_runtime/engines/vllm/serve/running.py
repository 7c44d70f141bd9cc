"""Requests in this process, and the end of them: what `openai.drain` is to our own engines."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from llmservice_runtime.engines.vllm.serve.asgi import Message, Send, refuse
from llmservice_runtime.openai.drain import draining
from llmservice_runtime.wire import sse


class Request:
    """One admitted request, whose answer can be ended from outside: then what the engine still says goes nowhere."""

    def __init__(self, send: Send) -> None:
        self.body_bytes = 0
        """Of what was asked; its prompt has hardly more tokens."""
        self._send = send
        self._started = False
        self._streams = False
        self._over = False

    async def send(self, message: Message) -> None:
        """What the application sends, until the answer is over."""
        if self._over:
            return
        if message["type"] == "http.response.start":
            self._started = True
            self._streams = any(
                name == b"content-type" and value.startswith(b"text/event-stream") for name, value in message["headers"]
            )
        elif not message.get("more_body", False):
            self._over = True
        await self._send(message)

    async def end(self) -> None:
        """Say that the replica shuts down: an error event in a stream, 503 where nothing was sent.

        The server takes the answer for complete, so the application sees a client that hung up, and stops generating.
        """
        if self._over:
            return
        self._over = True
        error = draining()
        if not self._started:
            await refuse(self._send, error)
        elif self._streams:
            body = sse.error_event(error.message, error.kind, error.code)
            await self._send({"type": "http.response.body", "body": body, "more_body": False})


class Running:
    """What is admitted and not finished."""

    def __init__(self) -> None:
        self.draining = False
        self.busy = asyncio.Event()
        """Set while requests run."""
        self.idle = asyncio.Event()
        """Set while none run."""
        self.idle.set()
        self._requests: set[Request] = set()

    @property
    def count(self) -> int:
        """Requests that run."""
        return len(self._requests)

    @property
    def longest_prompt(self) -> int:
        """Tokens that the longest prompt of those that run may have."""
        return max((request.body_bytes for request in self._requests), default=0)

    @contextmanager
    def admitted(self, send: Send) -> Iterator[Request]:
        """Around one request; ApiError 503 once draining."""
        if self.draining:
            raise draining()
        request = Request(send)
        self._requests.add(request)
        self.busy.set()
        self.idle.clear()
        try:
            yield request
        finally:
            self._requests.discard(request)
            if not self._requests:
                self.busy.clear()
                self.idle.set()

    async def drain(self, seconds: float, margin: float = 2.0) -> None:
        """Refuse new work, wait for what runs, then end the rest; each gets `margin` s to be gone."""
        self.draining = True
        if await _within(self.idle, seconds):
            return
        if ends := [asyncio.ensure_future(request.end()) for request in self._requests]:  # the last may have ended now
            await asyncio.wait(ends, timeout=margin)
        await _within(self.idle, margin)


async def _within(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
