"""The one encoder of server-sent events: a prebuilt envelope around escaped text.

Rules that hold for every byte written here: events end with two line feeds; only `data:` lines and comments; every
chunk has `choices` or `error`; usage comes in a chunk of its own with `choices: []`; `[DONE]` ends success only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from json.encoder import encode_basestring
from typing import Any

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": waiting\n\n"
HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}

quote = encode_basestring
"""JSON string with quotes; characters beyond ASCII stay as they are (the C implementation)."""


def dumps(value: Any) -> str:
    """Compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def told_ids(field: str, ids: Sequence[int]) -> str:
    """Token ids as one more field of an object in JSON, with the comma before it."""
    return f',"{field}":{dumps(list(ids))}'


def error_event(message: str, kind: str, code: str) -> bytes:
    """What a stream ends with when it fails after its first byte; the connection closes after it, without [DONE]."""
    error = {"message": message, "type": kind, "code": code, "param": None}
    return f"data: {dumps({'error': error})}\n\n".encode(errors="replace")


class Envelope:
    """The constant part of one stream's chunks.

    `usage` in the methods is the JSON text of a usage object, for `continuous_usage_stats`; empty = none.
    """

    __slots__ = ("_after", "_before", "_end", "_head")

    def __init__(self, stream_id: str, kind: str, created: int, model: str) -> None:
        head = {"id": stream_id, "object": kind, "created": created, "model": model}
        self._head = f'data: {dumps(head)[:-1]},"choices":['
        self._before = self._head + '{"index":'
        self._after = ',"logprobs":null,"finish_reason":null}]}\n\n'
        self._end = "}\n\n"

    def content(self, index: int, text: str) -> bytes:
        """The common chat chunk: text of one answer and nothing else."""
        return f'{self._before}{index},"delta":{{"content":{quote(text)}}}{self._after}'.encode()

    def text(self, index: int, text: str) -> bytes:
        """The common completion chunk."""
        return f'{self._before}{index},"text":{quote(text)}{self._after}'.encode()

    def choice(
        self,
        index: int,
        body: str,
        *,
        logprobs: str = "null",
        finish_reason: str | None = None,
        stop_reason: str | int | None = None,
        usage: str = "",
        ids: str = "",
        prompt_ids: str = "",
    ) -> bytes:
        """Any chunk with one choice. `body` is JSON text such as `"delta":{}` or `"text":""`; `ids` and `prompt_ids`
        are as `told_ids` writes them, in the choice and beside it."""
        finish = quote(finish_reason) if finish_reason else "null"
        extra = f',"stop_reason":{dumps(stop_reason)}' if finish_reason else ""
        tail = prompt_ids + (f',"usage":{usage}' if usage else "")
        choice = f'{body},"logprobs":{logprobs},"finish_reason":{finish}{extra}{ids}'
        return f"{self._before}{index},{choice}}}]{tail}{self._end}".encode()

    def usage(self, usage: str) -> bytes:
        """The last chunk before [DONE]: no choice, only the usage."""
        return f'{self._head}],"usage":{usage}{self._end}'.encode()
