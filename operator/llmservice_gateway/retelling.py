"""Telling an answer of chat in another protocol, while it comes."""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic_core import from_json

from llmservice_gateway.answers import ERROR_BYTES
from llmservice_gateway.dialects.apart import MOST_ANSWER, Translated, retold
from llmservice_gateway.dialects.dialect import Answering, Dialect
from llmservice_gateway.dialects.parts import MOST, TooMuchError
from llmservice_gateway.dialects.pieces import Chunks, Counted, Json
from llmservice_gateway.engine import Connection, EngineError
from llmservice_gateway.errors import answer_too_large, replica_error
from llmservice_gateway.relay import Passed, goes_on, whole_events
from llmservice_gateway.reply import Reply
from llmservice_gateway.speech import Whole
from llmservice_runtime.wire.errors import ApiError

MOST_EVENT = 256 << 10
"""Bytes of an event that is translated and not whole yet; chat's have some hundred."""
MOST_COMING = 4 << 20
"""Bytes that come in one go, and what there is of an event before them: a connection holds fewer."""
_PROMPT_IDS = re.compile(rb'("prompt_token_ids":\s*\[)[\d,\s]+')
"""Of an event whose prompt is long. No text has it: there quotes are escaped."""
AT_ONCE = 32 << 10
"""Bytes of events that are translated in one go: a few milliseconds, in which every other stream waits."""
_EVENT_END = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")
_STATUSES = {"invalid_request_error": 400, "rate_limit_error": 429, "service_unavailable_error": 503}
"""Of errors in a stream, which have only their type."""


class Told:
    """A `Speech` in `dialect`, of one request to `service`, that begins now."""

    def __init__(self, dialect: Dialect, translated: Translated, service: str, waited: Callable[[], float]) -> None:
        self._dialect = dialect
        self._service = service
        self._waited = waited
        """Seconds that it waited for a replica so far."""
        self._came = time.monotonic()
        self._answering = Answering(translated.echo, uuid.uuid4().hex, int(time.time()))
        self._teller = dialect.teller(self._answering) if dialect.teller else None
        self._chunks = Chunks()
        self._over = False
        """The last event was told."""
        self._bounded = not translated.unbounded
        self._spare = set(translated.spare)
        self._at_once = 0
        """Bytes since others had their turn."""

    @property
    def beat(self) -> bytes:
        """What a stream that waits is sent."""
        return self._dialect.beat

    def heads(self, given: Mapping[str, str]) -> Mapping[str, str]:
        """The protocol's own."""
        return {**given, **self._dialect.heads}

    def failure(self, error: ApiError) -> bytes:
        """An error event of the protocol."""
        assert self._teller is not None  # what streams has one
        self._over = True
        return self._teller.broken(error).encode()

    def late(self, whole: Whole) -> bytes:
        """An error event for an engine's error, and for an answer where a stream was promised."""
        return self.failure(self._error(whole))

    def amended(self, whole: Whole) -> tuple[str, str] | None:
        """Where prompt and `max_tokens` together don't fit: what the prompt leaves is less, so the bound holds. And a
        field that can be spared, where the replica is of a release that did not know it."""
        if whole[0] != 400 or not (self._spare or not self._bounded):
            return None
        error = self._error(whole)
        if error.code == "unsupported_parameter" and error.param in self._spare:
            self._spare.remove(error.param)
            return error.param, "null"
        if self._bounded or error.code != "context_length_exceeded":
            return None
        self._bounded = True
        self._answering.echo["unbounded"] = True
        return "max_tokens", "null"

    async def whole(self, whole: Whole) -> Whole:
        """The body in the words of the protocol, an error's too."""
        status, headers, body = whole
        headers = {**headers, "Content-Type": "application/json; charset=utf-8"}
        if not 200 <= status < 300:
            error = self._error(whole)
            return status, headers, json.dumps(self._dialect.error(error)).encode()
        self._spent(began=True)
        try:
            return status, headers, await retold(self._dialect, self._answering, body)
        except TooMuchError:
            raise answer_too_large(self._service, MOST_ANSWER) from None

    async def stream(
        self,
        source: Connection,
        first: bytes,
        reply: Reply,
        idle: float,
        passed: Passed,
    ) -> Exception | None:
        """Tell `first` and all that follows; as `relay`."""
        data, rest = first, bytearray()
        self._spent(began=True)
        try:
            async with asyncio.timeout(None) as bound:
                silence = _Silence(bound, idle)
                while data:
                    for events in _slices(_whole(rest, data)):
                        told = bytearray()
                        try:
                            for event in events:
                                told += self._event(event, passed)
                        finally:  # what stands before an event that is none was said
                            if told:
                                await reply.write(bytes(told))
                        self._at_once += len(data)
                        if self._at_once > AT_ONCE or reply.protocol.writing_paused:
                            await self._turn(reply, silence)
                    silence.begins()
                    data = source.taken() or await source.some()
                    passed.chunks += bool(data)
        except (EngineError, TimeoutError) as error:
            if not self._over:
                return error
        passed.last = asyncio.get_running_loop().time()
        return None if self._over else EngineError("the engine's stream ended without its end")

    async def _turn(self, reply: Reply, silence: _Silence) -> None:
        """Others have theirs; who takes nothing is let go by the server."""
        self._at_once = 0
        await asyncio.sleep(0)
        if reply.protocol.writing_paused:
            silence.ends()
            await reply.drain()

    def _event(self, event: bytes, passed: Passed) -> bytes:
        assert self._teller is not None
        if self._over:
            return b""
        if event.startswith(b"data: ") and b"\n" not in event and b"\r" not in event:
            data = event[6:].strip()
        else:
            lines = event.splitlines()
            data = b"\n".join(line[5:].strip() for line in lines if line.startswith(b"data:"))
            if not data:
                return self.beat if any(line.startswith(b":") for line in lines) else b""
        if data == b"[DONE]":
            self._over = True
            self._spent()
            return self._teller.end().encode()
        chunk = _chunk(data)
        if isinstance(error := chunk.get("error"), dict):
            return self.failure(self._dialect.renamed(_said(error)))
        try:
            told = []
            for piece in self._chunks.read(chunk):
                if isinstance(piece, Counted):
                    passed.counted = (piece.prompt, piece.answer)
                told.append(self._teller.tell(piece))
            return "".join(told).encode()
        except TooMuchError:
            return self.failure(answer_too_large(self._service, MOST))

    def _spent(self, *, began: bool = False) -> None:
        """The answer has come so far."""
        self._answering.ended = time.monotonic() - self._came
        if began:
            self._answering.began, self._answering.waited = self._answering.ended, self._waited()

    def _error(self, whole: Whole) -> ApiError:
        """An engine's error; of an answer that is none, that it should not have come."""
        status, _, body = whole
        try:
            said = _chunk(body).get("error") if status >= 400 and len(body) <= ERROR_BYTES else None
        except EngineError:
            said = None
        if not isinstance(said, dict):
            return replica_error(self._service, status, body[:ERROR_BYTES] if status >= 400 else b"no stream")
        return self._dialect.renamed(_said(said, status))


class _Silence:
    """Lets `bound` pass once an engine has said nothing for `idle` seconds, and at most a quarter more: a timer that is
    set anew for every chunk would cost as much as the chunk."""

    def __init__(self, bound: asyncio.Timeout, idle: float) -> None:
        self._bound, self._idle = bound, idle
        self._clock = asyncio.get_running_loop().time
        self._until = 0.0
        """The timer is good until then."""

    def begins(self) -> None:
        """The engine is waited for."""
        now = self._clock()
        if now >= self._until:
            self._until = now + self._idle / 4
            self._bound.reschedule(self._until + self._idle)

    def ends(self) -> None:
        """Its client is."""
        self._until = 0.0
        self._bound.reschedule(None)


def _whole(rest: bytearray, data: bytes) -> bytes:
    """The events that are whole with `data`; what is not stays in `rest`, without most of the prompt's ids, which no
    stream is told."""
    if rest and goes_on(rest, data, MOST_COMING):
        rest += data
        whole = b""
    else:
        whole, left = whole_events(bytes(rest) + data, MOST_COMING)
        rest[:] = left
    if len(rest) > MOST_EVENT:
        rest[:] = _PROMPT_IDS.sub(rb"\g<1>1", rest)  # a digit or a comma may follow, or the end
    if len(rest) > MOST_EVENT:
        raise EngineError("the engine's answer has an event without an end")
    return whole


def _slices(whole: bytes) -> Iterator[list[bytes]]:
    """Whole events, so many together as are translated in one go."""
    if len(whole) <= AT_ONCE and b"\r" not in whole:
        yield [event for event in whole.split(b"\n\n") if event]
        return
    events, size = list[bytes](), 0
    for event in _EVENT_END.split(whole):
        if event:
            events.append(event)
            size += len(event)
        if size > AT_ONCE:
            yield events
            events, size = [], 0
    yield events


def _chunk(data: bytes) -> Json:
    try:
        chunk = _read(data)
    except (ValueError, RecursionError):
        raise EngineError("the engine's answer is no JSON") from None
    if not isinstance(chunk, dict):
        raise EngineError("the engine's answer is no object")
    return chunk


def _read(data: bytes) -> Any:
    try:
        return from_json(data)
    except ValueError:  # it takes no half of a surrogate pair, which a token may be
        return json.loads(data)


def _said(error: dict[str, Any], status: int = 0) -> ApiError:
    """An error of chat."""
    message, kind, code, param = (
        value if isinstance(value := error.get(name), str) else "" for name in ("message", "type", "code", "param")
    )
    return ApiError(
        status or _STATUSES.get(kind, 500),
        message,
        code=code or "replica_error",
        kind=kind or "server_error",
        param=param or None,
    )
