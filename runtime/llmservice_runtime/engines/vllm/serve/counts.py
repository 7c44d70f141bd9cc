"""Requests instead of their texts in vLLM's metrics: so the other engines count, and who scales by them."""

from __future__ import annotations

import re

from llmservice_runtime.engines.vllm.serve.asgi import Message, Scope, Send, answer

_GAUGE = re.compile(rb"^(vllm:num_requests_(running|waiting)(?:\{[^}\n]*\})?) \S+$", re.MULTILINE)


def plain(scope: Scope) -> Scope:
    """The same question for an answer that is not packed."""
    return {**scope, "headers": [header for header in scope["headers"] if header[0] != b"accept-encoding"]}


def in_requests(send: Send, running: int, waiting: int) -> Send:
    """Sends vLLM's answer with these counts in it."""
    starts: list[Message] = []
    parts: list[bytes] = []
    counts = {b"running": running, b"waiting": waiting}

    async def whole(message: Message) -> None:
        if message["type"] == "http.response.start":
            starts.append(message)
            return
        parts.append(message.get("body", b""))
        if message.get("more_body", False):
            return
        body = _GAUGE.sub(lambda found: b"%s %d.0" % (found[1], counts[found[2]]), b"".join(parts))
        headers = [header for header in starts[0]["headers"] if header[0] != b"content-length"]
        await answer(send, starts[0]["status"], body, headers)

    return whole
