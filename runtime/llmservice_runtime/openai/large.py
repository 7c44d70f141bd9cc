"""Large requests: read, checked and rendered in a process of their own (`reading`), which may be lost.

Parsing a body of megabytes holds the interpreter for tenths of a second, while every stream of the engine waits. What
comes back from there takes next to nothing to read: a small request, and large texts as bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmservice_runtime.openai.worker import KilledError, LostError, Worker

if TYPE_CHECKING:  # with it comes aiohttp, which takes longer to import than a load takes
    from llmservice_runtime.wire.errors import ApiError

WORKER = Worker("llmservice_runtime.openai.reading")
SECONDS = 20.0
"""For one question: the largest takes 1 to 2 s, and more beside others' work."""
RETRY_SECONDS = 2


def ask(question: Mapping[str, Any], data: bytes, first: Any = None) -> tuple[Mapping[str, Any], bytes]:
    """The answer and its bytes; ApiError for what is refused there, 503 when others end the process. Blocks."""
    try:
        answer, found = WORKER.ask_apart(question, data, SECONDS, first)
    except KilledError as error:
        raise unanswered(error) from error
    if (refused := answer.get("refused")) is not None:
        from llmservice_runtime.wire.errors import ApiError

        raise ApiError(refused.pop("status"), refused.pop("message"), **refused)
    return answer, found


def read(question: Mapping[str, Any], body: bytes) -> tuple[Mapping[str, Any], bytes]:
    """What `ask` finds for a body; ApiError 413 for one that takes more memory or time than it may."""
    try:
        return ask(question, body)
    except LostError as error:
        from llmservice_runtime.wire.errors import ApiError

        raise ApiError(413, f"The body can't be read: that {error}.", code="request_too_large") from error


def unanswered(error: KilledError) -> ApiError:
    """503: it was no fault of the request, and another process has been begun."""
    from llmservice_runtime.wire.errors import unavailable

    message = f"The process that reads and renders requests {error} twice; another one takes its place. Ask again."
    return unavailable(message, "worker_lost", RETRY_SECONDS)
