"""How one request's answer is told to its client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from llmservice_gateway.engine import Connection
from llmservice_runtime.wire.errors import ApiError

if TYPE_CHECKING:  # both know a speech
    from llmservice_gateway.relay import Passed
    from llmservice_gateway.reply import Reply

Whole = tuple[int, Mapping[str, str], bytes]
"""Status, headers and body of an answer that is no stream."""


class Speech(Protocol):
    """Of one request. Nothing of it is kept between attempts."""

    @property
    def beat(self) -> bytes:
        """What a stream that waits is sent."""
        ...

    def heads(self, given: Mapping[str, str]) -> Mapping[str, str]:
        """Headers of a stream whose replica says `given`."""
        ...

    def failure(self, error: ApiError) -> bytes:
        """What a stream that has begun ends with."""
        ...

    def late(self, whole: Whole) -> bytes:
        """The same for an answer that is no stream, where one was promised."""
        ...

    def amended(self, whole: Whole) -> tuple[str, str] | None:
        """What the request has to say instead (a field, and its JSON) to get another answer than this one."""
        ...

    async def whole(self, whole: Whole) -> Whole:
        """An engine's answer as its client gets it. ApiError when it can't be."""
        ...

    async def stream(
        self, source: Connection, first: bytes, reply: Reply, idle: float, passed: Passed
    ) -> Exception | None:
        """Tell `first` and all that follows; as `relay`."""
        ...
