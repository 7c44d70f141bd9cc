"""Asking one line: until it has an answer, or an error that asking again would not change."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from llmservice_cli.batch.lines import Line
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.wire.priority import BATCH, HEADER

NOT_REACHED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""Nobody has seen the request: the server refused a connection, has no address, or its machine is silent."""
LATER = frozenset({408, 409, 429, 500, 502, 503, 504})
"""Statuses of what may succeed another time, unless the answer says otherwise."""
WAITS = frozenset({429, 503})
"""Of these, what says nothing of the request: so many may wait, or a model is being started. It is waited for."""
TRIES = 5
"""Of a line that breaks something, or that something breaks for."""
AWAY_SECONDS = 600.0
"""A server that takes no connection for so long ends the batch: it goes on where it was when it is run again."""
BACKOFF, MOST_BACKOFF = 0.5, 30.0
MOST_WAIT = 3600.0
"""Of what Retry-After says."""


class StoppedError(UserError):
    """Nothing can be answered any more; what was not asked yet may be later."""


class GoneError(StoppedError):
    """One service answers nothing; others may."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a line's output has: a response, or the error of one that got none."""

    status: int = 0
    request_id: str = ""
    body: Any = None
    error: str = ""
    """Code; empty = there is a response."""
    message: str = ""


class Asker:
    """Asks one server. `told` is given what it says while it has to be waited for; None: it is not any more."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base: str,
        key: str = "",
        told: Callable[[str | None], None] = lambda _: None,
        away_seconds: float = AWAY_SECONDS,
    ) -> None:
        """`base`: of a service or a gateway, with or without /v1; `key`: an API key, empty = none is asked for."""
        self._session = session
        self._base = base.rstrip("/").removesuffix("/v1")
        self._headers = {HEADER: BATCH, "Content-Type": "application/json", "Accept": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._told = told
        self._away_seconds = away_seconds
        self._reached = asyncio.get_running_loop().time()

    async def ask(self, line: Line) -> Answer:
        """Its answer. StoppedError where that is nothing of the line's, GoneError where only its service has none."""
        body = json.dumps(line.body).encode()
        broken = 0
        pauses = 0
        while True:
            try:
                answer, headers = await self._once(line, body)
            except NOT_REACHED as error:
                await self._away(error, pauses)
                pauses += 1
                continue
            except (aiohttp.ClientError, OSError) as error:
                broken += 1
                if broken >= TRIES:
                    said = f"the connection broke {TRIES} times: {str(error) or type(error).__name__}"
                    return Answer(error="connection_broken", message=said)
                await asyncio.sleep(_backoff(broken))
                continue
            if answer.status in (401, 403):
                raise StoppedError(
                    f"the server takes no requests with this key: {_message(answer.body)}",
                    "Set OPENAI_API_KEY to a key that may use the service, then run the same command again.",
                )
            final = headers.get("x-should-retry", "").lower() == "false"
            if answer.error or answer.status not in LATER or (final and answer.status not in WAITS):
                self._told(None)
                return answer
            if final:
                raise GoneError(
                    f"the service answers nothing: {_message(answer.body)}",
                    "When it does, run the same command again: it goes on where it ended.",
                )
            waits = answer.status in WAITS
            broken += not waits
            pauses = pauses + 1 if waits else 0
            if broken >= TRIES:
                return answer
            self._told(_message(answer.body))
            await asyncio.sleep(_pause(headers, pauses or broken))

    async def _once(self, line: Line, body: bytes) -> tuple[Answer, Mapping[str, str]]:
        url, headers = self._base + line.url, {**self._headers, "X-Request-Id": line.name}
        async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            raw = await response.read()
        self._reached = asyncio.get_running_loop().time()
        request_id = response.headers.get("X-Request-Id", line.name)
        try:
            return Answer(response.status, request_id, json.loads(raw)), response.headers
        except (ValueError, RecursionError):
            text = raw[:1000].decode(errors="replace")
            if response.status == 200:
                return Answer(error="no_json", message=f"the answer is no JSON: {text}"), response.headers
            return Answer(
                response.status, request_id, {"error": {"message": text, "code": "no_json"}}
            ), response.headers

    async def _away(self, error: Exception, pauses: int) -> None:
        if asyncio.get_running_loop().time() - self._reached > self._away_seconds:
            raise StoppedError(
                f"{self._base} is not reached: {error}.",
                "When it runs again, run the same command: it goes on where it ended.",
            )
        self._told(f"{self._base} is not reached: {error}.")
        await asyncio.sleep(_backoff(pauses + 1))


def _pause(headers: Mapping[str, str], tries: int) -> float:
    """Seconds: what the answer says, else ever longer. Not all that wait come back at once."""
    said = headers.get("Retry-After", "")
    if said.isdecimal():
        return min(float(said), MOST_WAIT) * random.uniform(1.0, 1.2)
    return _backoff(tries)


def _backoff(tries: int) -> float:
    return float(min(BACKOFF * 2 ** min(tries - 1, 16), MOST_BACKOFF)) * random.uniform(0.7, 1.3)


def _message(body: Any) -> str:
    error = body.get("error", body) if isinstance(body, dict) else body
    return str(error.get("message", error) if isinstance(error, dict) else error)[:500]
