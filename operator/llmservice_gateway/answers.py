"""Answers that are no streams: read whole within bounds, and told as an OpenAI error where they are none. Engines are
their tenants'; nothing of what they send costs other tenants anything."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic_core import from_json

from llmservice_gateway.engine import Connection, Head
from llmservice_gateway.errors import answer_too_large, no_room_for_answer, replica_error
from llmservice_runtime.wire.errors import error_text

EACH_BYTES = 128 << 20
"""Of one answer: log-probabilities of a hundred thousand tokens, or embeddings of thousands of texts."""
ALL_BYTES = 256 << 20
"""Of all together, without the first SMALL_BYTES of each."""
SMALL_BYTES = 1 << 20
"""An answer of so many always has room: large ones of others refuse none of these."""
ERROR_BYTES = 64 << 10
"""Of an engine's error; a longer one is none that a client would read."""
LONGEST_HEADER = 1024
PASSED = tuple(
    (name, name.lower())
    for name in ("Content-Type", "Cache-Control", "X-Accel-Buffering", "Retry-After", "x-should-retry")
)
"""Headers that clients get, and how an engine's head has them."""


class Answers:
    """Reads them, within bounds over all."""

    def __init__(self, each: int = EACH_BYTES, together: int = ALL_BYTES) -> None:
        self._each, self._together = each, together
        self.taken = 0

    async def read(self, engine: Connection, service: str) -> bytes:
        """All of an answer. EngineError when it is not whole; ApiError 502 or 503 when it has no room."""
        parts, size, taken = list[bytes](), 0, 0
        try:
            while part := await engine.some():
                parts.append(part)
                size += len(part)
                if size > self._each:
                    raise answer_too_large(service, self._each)
                more = max(0, size - SMALL_BYTES) - taken
                if self.taken + more > self._together:
                    raise no_room_for_answer(self._together)
                self.taken += more
                taken += more
            return b"".join(parts)
        finally:
            self.taken -= taken


def passed_on(head: Head) -> dict[str, str]:
    """The headers of an engine that its client gets."""
    passed = dict[str, str]()
    for name, lower in PASSED:
        value = head.headers.get(lower)
        if value and value.isascii() and value.isprintable() and len(value) <= LONGEST_HEADER:
            passed[name] = value
    return passed


def told(service: str, status: int, headers: Mapping[str, str], body: bytes) -> tuple[int, Mapping[str, str], bytes]:
    """(status, headers, body) for the client: an error that is none of OpenAI's is put into words, and what is neither
    an answer nor an error is 502."""
    if 200 <= status < 300 or (400 <= status < 600 and _is_error(body)):
        return status, headers, body
    error = replica_error(service, status, body[:ERROR_BYTES])
    kept = {name: value for name, value in headers.items() if name != "Content-Type"}
    return error.status, {**kept, "Content-Type": "application/json; charset=utf-8"}, error_text(error)


def _is_error(body: bytes) -> bool:
    if len(body) > ERROR_BYTES:
        return False
    try:
        said = from_json(body)
    except ValueError:
        return False
    error = said.get("error") if isinstance(said, dict) else None
    return isinstance(error, dict) and isinstance(error.get("message"), str)
