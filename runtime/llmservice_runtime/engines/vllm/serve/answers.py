"""What vLLM sends, as our contract has it, without reading every chunk: bytes go in where bytes are missing."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from llmservice_runtime.engines.vllm.serve.asgi import JSON, Headers, Message, Send, answer, refuse
from llmservice_runtime.engines.vllm.serve.echo import Echoed
from llmservice_runtime.engines.vllm.serve.logprobs import Trimmed
from llmservice_runtime.engines.vllm.serve.refusals import refusal, stream_failure
from llmservice_runtime.openai.state import Server
from llmservice_runtime.protocol.engine import Tokenizer
from llmservice_runtime.wire import sse

_FINISHES, _CALLS = b'"finish_reason":"', b'"tool_calls":[{"id":'
_USAGE = b'"choices":[],"usage":'
_ERROR_EVENT = b'data: {"error":'
_THOUGHT = re.compile(rb'"reasoning":("(?:[^"\\]|\\.)*")')
"""Never inside of a text: there quotes are escaped."""
SAME_NAME = (b"", b"")
_TOLD = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


@dataclass(frozen=True, slots=True)
class Changes:
    """What an answer needs."""

    thinks: bool = False
    """It may have thinking, which clients read under two names."""
    renamed: tuple[bytes, bytes] = SAME_NAME
    """The model as vLLM names it, and as the client did."""
    logprobs: bool = False
    """They are told, and must belong to the text."""
    no_usage: bool = False
    """The usage stands in every chunk, and none is wanted at the end."""
    held: str = "response_format"
    """The field that holds it to a grammar."""
    strings: Tokenizer | None = None
    """Shows tokens as text."""
    tidy: bool = False
    """Counts that only vLLM has are left out."""
    ids: bool = False
    """Those of tokens are told."""
    echoed: Echoed | None = None
    """They are told of a completion that its prompt opens."""


NONE = Changes()


class Answer:
    """Passes one answer on, changed as `changes` say."""

    def __init__(self, send: Send, path: str, changes: Changes = NONE) -> None:
        self._send = send
        self._path = path
        self._thinks = changes.thinks
        self._renamed = changes.renamed
        self._trimmed = Trimmed(changes.ids) if changes.logprobs else None
        self._echoed = changes.echoed
        self._no_usage = changes.no_usage
        self._held_to = changes.held
        self._strings = changes.strings
        self._held: Message | None = None
        """The start of an answer that is changed as a whole."""
        self._body = b""
        self._streams = False
        self._failed = False
        self._tidy = changes.tidy

    async def send(self, message: Message) -> None:
        """One ASGI message of vLLM's."""
        if message["type"] == "http.response.start":
            await self._start(message)
        elif message["type"] != "http.response.body":
            await self._send(message)
        elif self._held is not None:
            await self._whole(self._held, message)
        elif self._streams:
            await self._chunk(message)
        else:
            await self._send(message)

    async def _start(self, message: Message) -> None:
        headers: Headers = list(message["headers"])
        kind = next((value for name, value in headers if name == b"content-type"), b"")
        self._streams = message["status"] < 400 and kind.startswith(b"text/event-stream")
        changed = self._thinks or self._renamed != SAME_NAME or self._trimmed or self._strings or self._tidy
        if message["status"] >= 400 or (changed and not self._streams):
            self._held = message
            return
        if self._streams:
            message["headers"] = [*headers, *_TOLD]
        await self._send(message)

    async def _whole(self, start: Message, message: Message) -> None:
        self._body += message.get("body", b"")
        if message.get("more_body", False):
            return
        if start["status"] >= 400:
            await refuse(self._send, refusal(start["status"], self._body, self._path, self._held_to))
        else:
            body = self._body.replace(*self._renamed, 1)
            if self._echoed:
                body = self._echoed.whole(body)
            if self._trimmed:
                body = self._trimmed.whole(body)
            if self._tidy:
                body = tidied(body)
            if self._strings:
                body = with_strings(body, self._strings)
            await answer(self._send, start["status"], with_both_names(body) if self._thinks else body, [JSON])

    async def _chunk(self, message: Message) -> None:
        if self._failed:
            return
        body: bytes = message.get("body", b"")
        if body.startswith(_ERROR_EVENT):
            self._failed = True  # vLLM writes [DONE] after it, which ends success only
            error = stream_failure(body)
            event = sse.error_event(error.message, error.kind, error.code)
            await self._send({"type": "http.response.body", "body": event, "more_body": False})
            return
        if self._no_usage and _USAGE in body:
            return
        if self._renamed != SAME_NAME:
            body = body.replace(*self._renamed, 1)
        if self._echoed:
            body = self._echoed.event(body)
        if self._trimmed:
            body = self._trimmed.event(body)
        if self._tidy and b'"usage":{' in body:
            body = b"data: " + tidied(body.removeprefix(b"data: ").strip()) + b"\n\n"
        if self._tidy and (_FINISHES in body or _CALLS in body):
            body = parted(body)
        message["body"] = with_both_keys(body) if self._thinks else body
        await self._send(message)


def parted(event: bytes) -> bytes:
    """An event as those that clients know: an answer's end has an empty delta, a call's beginning no arguments."""
    found = json.loads(event.removeprefix(b"data: "))
    bodies: list[dict[str, Any]] = []
    for choice in found["choices"]:
        delta = choice.get("delta")
        ends = {"finish_reason": choice.get("finish_reason"), "stop_reason": choice.get("stop_reason")}
        if delta is None:  # a completion
            bodies.append(choice)
            continue
        going = {**choice, "finish_reason": None}
        going.pop("stop_reason", None)
        begun = [call for call in delta.get("tool_calls") or () if call.get("id") and call["function"].get("arguments")]
        for call in begun:
            start = {**call, "function": {**call["function"], "arguments": ""}}
            bodies.append({**going, "delta": {"tool_calls": [start]}, "logprobs": None})
            call.pop("id")
            call.pop("type", None)
            call["function"].pop("name", None)
        if any(delta.values()) or choice.get("logprobs"):
            bodies.append(going)
        if ends["finish_reason"]:
            bodies.append({**choice, "delta": {}, "logprobs": None, **ends})
        for later in bodies[1:]:  # its tokens are told once
            later.pop("token_ids", None)
    return b"".join(b"data: " + sse.dumps({**found, "choices": [one]}).encode() + b"\n\n" for one in bodies)


def tidied(body: bytes) -> bytes:
    """Without what no other engine tells: counts of tokens, and an echoed prompt's log-probabilities once more."""
    try:
        found = json.loads(body)
    except ValueError:
        return body
    for choice in found.get("choices", ()):
        choice.pop("prompt_logprobs", None)  # `echo` has them in the choice's own
    if usage := found.get("usage"):
        usage.pop("completion_tokens_details", None)
        if details := usage.get("prompt_tokens_details"):
            usage["prompt_tokens_details"] = {"cached_tokens": details.get("cached_tokens") or 0}
    return sse.dumps(found).encode()


def with_strings(body: bytes, tokenizer: Tokenizer) -> bytes:
    """`token_strs` as texts: a vocabulary writes them in an alphabet of its own."""
    found = json.loads(body)
    if found.get("token_strs"):
        found["token_strs"] = [tokenizer.decode([token], skip_special=False) for token in found["tokens"]]
    return sse.dumps(found).encode()


def with_both_keys(chunk: bytes) -> bytes:
    """`reasoning_content` beside `reasoning` in an event."""
    return _THOUGHT.sub(rb'"reasoning":\1,"reasoning_content":\1', chunk)


def with_both_names(body: bytes) -> bytes:
    """The same in a whole answer; one that is no JSON object stays."""
    try:
        found = json.loads(body)
        for choice in found["choices"]:
            message = choice["message"]
            if message.get("reasoning"):
                message["reasoning_content"] = message["reasoning"]
    except (ValueError, KeyError, TypeError):
        return body
    return sse.dumps(found).encode()


def named(server: Server, asked: str | None, told: str) -> tuple[str, str]:
    """What vLLM answers with where it was `told` to compute with this, and what the client asked for."""
    asked = asked or server.model_name
    return (told if server.adapter(asked) else server.model_name), asked


def renaming(answered: str, asked: str) -> tuple[bytes, bytes]:
    """vLLM answers with the first of its names, or an adapter's; clients with the one that they asked for. It comes
    before all text."""
    if asked == answered:
        return SAME_NAME
    words = (f'"model":{json.dumps(name, ensure_ascii=False)}'.encode() for name in (answered, asked))
    return next(words), next(words)
