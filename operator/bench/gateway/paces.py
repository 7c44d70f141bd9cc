"""How the scripted engine streams: a request says its pace by `max_tokens`, which every proxy passes on."""

from __future__ import annotations

import json
from dataclasses import dataclass

TOKEN = b'" token'
"""Once in each chunk, also in what a proxy has written anew."""


@dataclass(frozen=True, slots=True)
class Pace:
    """A stream: how many chunks, seconds apart (0 = as fast as they are taken), bytes in each (at least)."""

    chunks: int
    apart: float
    size: int = 200

    @property
    def body(self) -> bytes:
        """Of a request for it."""
        return json.dumps(
            {
                "model": "bench",
                "stream": True,
                "max_tokens": self.chunks,
                "messages": [{"role": "user", "content": "Say something long."}],
            }
        ).encode()

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
