"""Load: streams over HTTP, timed at the client. The same code drives both servers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp


@dataclass(slots=True)
class StreamResult:
    """One streamed completion. Times in seconds; `gaps` are times between chunks that carried text."""

    started: float
    first: float = 0.0
    ended: float = 0.0
    tokens: int = 0
    cached_tokens: int = 0
    gaps: list[float] = field(default_factory=list)
    broken: str = ""
    """Why the stream does not count as whole; empty when it ended with all its tokens, by the usage chunk."""

    @property
    def ttft(self) -> float:
        """Time to the first chunk with a choice."""
        return self.first - self.started


def body_of(prompt: str, max_tokens: int, model: str) -> dict[str, object]:
    """A greedy request of exactly `max_tokens` tokens, that both servers understand in the same way."""
    return {
        "model": model,
        "prompt": prompt,
        "max_tokens": max_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def stream(session: aiohttp.ClientSession, base: str, body: dict[str, object]) -> StreamResult:
    """Send one request and read it to its end. Never raises: a failure is a broken stream with its reason."""
    result = StreamResult(started=time.perf_counter())
    done = False  # not every peer writes [DONE]
    last = 0.0
    try:
        async with session.post(f"{base}/v1/completions", json=body) as response:
            if response.status != 200:
                result.broken = f"HTTP {response.status}: {(await response.text())[:200]}"
                return result
            async for line in response.content:
                if not line.startswith(b"data: "):
                    continue
                now = time.perf_counter()
                if line.startswith(b"data: [DONE]"):
                    done = True
                    break
                chunk = json.loads(line[6:])
                if usage := chunk.get("usage"):
                    result.tokens = int(usage["completion_tokens"])
                    details = usage.get("prompt_tokens_details") or {}
                    result.cached_tokens = int(details.get("cached_tokens") or 0)
                if "error" in chunk:
                    result.broken = f"error event: {chunk['error']}"
                elif choices := chunk.get("choices"):
                    done = done or bool(choices[0].get("finish_reason"))
                    if not result.first:
                        result.first = now
                    elif last:
                        result.gaps.append(now - last)
                    last = now
    except (aiohttp.ClientError, OSError, ValueError) as error:
        result.broken = f"{type(error).__name__}: {error}"
    result.ended = time.perf_counter()
    if not result.broken and (not done or result.tokens != body["max_tokens"]):
        result.broken = f"done={done}, {result.tokens} of {body['max_tokens']} tokens"
    return result


async def closed_loop(base: str, queues: Sequence[Sequence[dict[str, object]]]) -> list[StreamResult]:
    """One worker per queue; each sends its requests one after the other."""
    # A connection each: llama-server closes kept ones at will, which would count as broken streams.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=600)) as session:

        async def worker(queue: Sequence[dict[str, object]]) -> list[StreamResult]:
            return [await stream(session, base, body) for body in queue]

        parts = await asyncio.gather(*(worker(queue) for queue in queues))
    return [result for part in parts for result in part]


async def open_loop(base: str, bodies: Sequence[dict[str, object]], interval: float) -> list[StreamResult]:
    """Requests at fixed times, whatever the server does: one every `interval` seconds."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=600)) as session:

        async def later(number: int, body: dict[str, object]) -> StreamResult:
            await asyncio.sleep((number + 1) * interval)
            return await stream(session, base, body)

        return list(await asyncio.gather(*(later(number, body) for number, body in enumerate(bodies))))
