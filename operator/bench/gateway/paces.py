"""How the scripted engine streams: a request says its pace by `max_tokens`, which every proxy passes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
TOKEN = b'" token'
"""Once in each chunk, also in what a proxy has written anew."""


MESSAGES = [{"role": "user", "content": "Say something long."}]


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a client asks for so many tokens, and what its stream has. `done` stands in its end alone, and is no longer
    than a token; `repeats`: how often the end has the text once more."""

    path: str
    asked: Callable[[int], Json]
    done: bytes
    repeats: int = 0


CHAT = Protocol("/v1/chat/completions", lambda tokens: {"max_tokens": tokens, "messages": MESSAGES}, b"[DONE]")
PROTOCOLS = {
    "messages": Protocol("/v1/messages", CHAT.asked, b"e_stop"),
    "responses": Protocol(
        "/v1/responses", lambda tokens: {"max_output_tokens": tokens, "input": MESSAGES}, b"pleted", repeats=4
    ),
    "Ollama": Protocol(
        "/api/chat", lambda tokens: {"options": {"num_predict": tokens}, "messages": MESSAGES}, b":true"
    ),
    "TGI": Protocol(
        "/apps/bench", lambda tokens: {"parameters": {"max_new_tokens": tokens}, "inputs": "x"}, b'"seed"', repeats=1
    ),
}
"""Those that the gateway translates."""


@dataclass(frozen=True, slots=True)
class Pace:
    """A stream: how many chunks, seconds apart (0 = as fast as they are taken), bytes in each (at least)."""

    chunks: int
    apart: float
    size: int = 200
    protocol: Protocol = CHAT

    @property
    def body(self) -> bytes:
        """Of a request for it."""
        model = {} if "inputs" in (asked := self.protocol.asked(self.chunks)) else {"model": "bench"}
        return json.dumps({**model, "stream": True, **asked}).encode()

    @property
    def event(self) -> bytes:
        """One of its chunks."""
        head = (
            b'data: {"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk","created":1790000000,'
            b'"model":"bench","choices":[{"index":0,"delta":{"content":' + TOKEN
        )
        end = b'"},"logprobs":null,"finish_reason":null}]}\n\n'
        return head + b"n" * (self.size - len(head) - len(end)) + end


DECODING = Pace(100, 0.02)
"""An engine that decodes at 50 tokens a second."""
SLOW = Pace(20, 2.0)
LARGE = Pace(101, 0.0, 20_000)
"""More than the buffers of the kernel: who reads it slowly makes its proxy wait, or keep it."""
PACES = {pace.chunks: pace for pace in (DECODING, SLOW, LARGE)}
