"""One line about each request: what it was, where it went, how long it took. Never a prompt, an answer or a key."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiohttp import web

from llmservice_runtime.wire.priority import BATCH

GONE = 499
"""The status of a request whose client left before its answer."""
CUT = 200
BROKEN = "replica_lost"
"""The reason of a request whose replica broke: after the first byte a stream was cut off, before it was refused."""
_ID = re.compile(r"[A-Za-z0-9._:@/+=-]{1,128}")

Write = Callable[[bytes], None]


@dataclass(slots=True)
class Entry:
    """Filled while the request is answered. Times are the event loop's; 0 = it never came to that."""

    request_id: str
    method: str
    path: str
    came: float
    service: str = ""
    """Full name; empty when none was meant."""
    adapter: str = ""
    """The one of the service's that was meant; empty = the model itself."""
    replica: str = ""
    """The last one that had it."""
    status: int = GONE
    reason: str = ""
    """The error code of what this gateway itself answered."""
    streams: bool = False
    body_bytes: int = 0
    queued: bool = False
    """It asked for a place at a replica."""
    queue_seconds: float = 0.0
    """Until it had one, all attempts together."""
    retries: int = 0
    first: float = 0.0
    """When the first byte of the answer came."""
    last: float = 0.0
    chunks: int = 0
    """Pieces of a stream after the first one."""
    prompt_tokens: int = 0
    answer_tokens: int = 0
    batch: bool = False
    """It goes behind live requests."""
    key: str = ""
    """The name of the API key that was shown; never the key."""
    address: str = ""
    """Whoever showed a key that is nobody's."""
    guessed_tokens: int = 0
    """What a replica has of it, where it does not come to tell: of an answer whose client left, or that broke."""

    @property
    def spent(self) -> int:
        """Tokens, as they count for a key's limit."""
        told = self.prompt_tokens + self.answer_tokens
        return told or (self.guessed_tokens if self.status in (200, GONE) else 0)

    def line(self, now: float, wall: float) -> bytes:
        """JSON and a line feed; `wall` is Unix time. What is nothing is left out, but for times: a quick one is 0."""
        fields = {
            "time": datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds"),
            "request_id": self.request_id,
            "method": self.method,
            "path": self.path[:CUT],
            "service": self.service,
            "adapter": self.adapter,
            "key_name": self.key,
            "address": self.address,
            "replica": self.replica,
            "status": self.status,
            "reason": self.reason,
            "stream": self.streams,
            "priority": BATCH if self.batch else "",
            "body_bytes": self.body_bytes,
            "seconds": round(now - self.came, 4),
            "queue_seconds": round(self.queue_seconds, 4) if self.queued else None,
            "first_byte_seconds": round(self.first - self.came, 4) if self.first else None,
            "retries": self.retries,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.answer_tokens,
        }
        return (
            json.dumps({name: value for name, value in fields.items() if value or isinstance(value, float)}).encode()
            + b"\n"
        )


ENTRY = web.RequestKey("entry", Entry)


@dataclass(frozen=True, slots=True)
class Journal:
    """Where the lines go; nowhere by default."""

    write: Write | None = None
    clock: Callable[[], float] = field(default=lambda: datetime.now(UTC).timestamp())

    def note(self, entry: Entry, now: float) -> None:
        """The request is over."""
        if self.write is not None:
            self.write(entry.line(now, self.clock()))


def request_id(given: str | None) -> str:
    """The client's own id where it is one, so that its logs and these tell of the same request; else a new one."""
    return given if given and _ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
