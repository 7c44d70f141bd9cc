"""Chat's own answers, passed on as they come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llmservice_gateway.engine import Connection
from llmservice_gateway.relay import Kept, Passed, relay
from llmservice_gateway.reply import Reply
from llmservice_gateway.speech import Whole
from llmservice_runtime.wire.errors import ApiError, error_text
from llmservice_runtime.wire.sse import KEEP_ALIVE


@dataclass(frozen=True, slots=True)
class Plain:
    """A `Speech` as engines have it. `strips`: what tells of usage alone stays here."""

    kept: Kept
    strips: bool = False

    @property
    def beat(self) -> bytes:
        """A comment."""
        return KEEP_ALIVE

    def heads(self, given: Mapping[str, str]) -> Mapping[str, str]:
        """As they are."""
        return given

    def failure(self, error: ApiError) -> bytes:
        """An error event; no [DONE] follows."""
        return self.late((error.status, {}, error_text(error)))

    def late(self, whole: Whole) -> bytes:
        """Its body as an event."""
        return b"data: " + b" ".join(whole[2].splitlines()) + b"\n\n"

    def amended(self, whole: Whole) -> None:
        """It is what the client wrote."""

    async def whole(self, whole: Whole) -> Whole:
        """As it is."""
        return whole

    async def stream(
        self, source: Connection, first: bytes, reply: Reply, idle: float, passed: Passed
    ) -> Exception | None:
        """A splice of two transports."""
        return await relay(source, first, reply, idle, passed, self.kept, strips=self.strips)
