"""POST /v1/chat/completions."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from llmservice_runtime.openai.chat_prompt import ChatPlan, plan_chat
from llmservice_runtime.openai.events import AnswerReader, Event, Message, Reasoning
from llmservice_runtime.openai.generation import check, submitted
from llmservice_runtime.openai.logprobs import ContentLogprobs, chat_logprobs
from llmservice_runtime.openai.requests.body import received
from llmservice_runtime.openai.requests.chat import ChatRequest
from llmservice_runtime.openai.state import SERVER, WRITING
from llmservice_runtime.openai.stream import stream
from llmservice_runtime.openai.tool_parser import CallArguments, CallStart, Content
from llmservice_runtime.openai.usage import Usage
from llmservice_runtime.protocol.engine import Delta, TokenLogprob
from llmservice_runtime.wire import sse
from llmservice_runtime.wire.priority import is_batch


async def chat_completions(http: web.Request) -> web.StreamResponse:
    """Answer a chat, streamed or whole."""
    server = http.app[SERVER]
    server.check_task(*WRITING)
    batch = is_batch(http.headers)
    request = await received(
        http, ChatRequest, server.context_tokens, unsupported=server.unsupported_fields, pictures=server.sees
    )
    with server.drain.admitted():
        model = server.check_model(request.model)
        async with (
            plan_chat(server, request, batch=batch) as plan,
            submitted(server.ready_engine(), [plan.generation], batch=batch) as deltas,
        ):
            if request.stream:
                return await stream(http, deltas, ChatWriter(plan, model, request), server.drain)
            answers = [_Answer(plan.reader(), ids=request.return_token_ids) for _ in range(request.n)]
            usage = Usage(len(plan.generation.prompt_tokens))
            async for delta in deltas:
                usage.add(check(delta))
                answers[delta.index].add(delta)
    body = {
        "id": plan.generation.request_id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [answer.choice(index, request.logprobs) for index, answer in enumerate(answers)],
        "usage": usage.body(),
    }
    if request.return_token_ids:
        body["prompt_token_ids"] = list(plan.generation.prompt_tokens)
    return web.Response(text=sse.dumps(body), content_type="application/json")


@dataclass(slots=True)
class _Answer:
    """One answer that is not streamed, while it grows."""

    reader: AnswerReader | None
    ids: bool
    """Whether those of its tokens are told."""
    token_ids: list[int] = field(default_factory=list)
    message: Message = field(default_factory=Message)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    last: Delta | None = None

    content: ContentLogprobs = field(default_factory=ContentLogprobs)

    def add(self, delta: Delta) -> None:
        events = events_of(delta, self.reader)
        self.message.add(events)
        self.logprobs += positions_of(delta, self.reader, events, self.content)
        if self.ids:
            self.token_ids += delta.token_ids
        self.last = delta

    def choice(self, index: int, logprobs: bool) -> dict[str, Any]:
        told = {"token_ids": self.token_ids} if self.ids else {}
        return {
            "index": index,
            "message": self.message.body(),
            "logprobs": chat_logprobs(self.logprobs) if logprobs else None,
            "finish_reason": finish_reason(self.last, self.reader),
            "stop_reason": self.last.stop_reason if self.last else None,
            **told,
        }


def events_of(delta: Delta, reader: AnswerReader | None) -> list[Event]:
    """What one delta says: plain content when nothing needs reading."""
    if reader is None:
        return [Content(delta.text)] if delta.text else []
    events = reader.feed(delta.text)
    return events + reader.finish() if delta.finish_reason else events


def positions_of(
    delta: Delta, reader: AnswerReader | None, events: Sequence[Event], content: ContentLogprobs
) -> list[TokenLogprob]:
    """The log-probabilities of content that are certain after this delta: joined, their tokens are the content."""
    if reader is None:
        return delta.logprobs or []
    content.add(delta.logprobs or (), [(e.at, e.at + len(e.text)) for e in events if isinstance(e, Content)])
    return content.certain(sys.maxsize if delta.finish_reason else reader.decided)


def finish_reason(delta: Delta | None, reader: AnswerReader | None) -> str | None:
    """OpenAI's: an answer that called tools and came to its own end finished with `tool_calls`."""
    if delta is None or delta.finish_reason is None:
        return None
    called = reader is not None and reader.called
    return "tool_calls" if called and delta.finish_reason == "stop" else str(delta.finish_reason)


class ChatWriter:
    """Deltas to chunks. The role comes first; an event of its own for every tool-call piece; finish, then usage."""

    def __init__(self, plan: ChatPlan, model: str, request: ChatRequest) -> None:
        self._envelope = sse.Envelope(plan.generation.request_id, "chat.completion.chunk", int(time.time()), model)
        self._readers = [plan.reader() for _ in range(request.n)]
        self._logprobs = request.logprobs
        self._ids = request.return_token_ids
        self._prompt = plan.generation.prompt_tokens
        self._contents = [ContentLogprobs() for _ in range(request.n)]
        options = request.stream_options
        self._continuous = options is not None and options.continuous_usage_stats
        self._with_usage = options is not None and options.include_usage
        self._usage = Usage(len(plan.generation.prompt_tokens))
        self._plain = not (self._logprobs or self._continuous or self._ids)

    def opening(self) -> bytes:
        """`role` and empty content, once per answer."""
        role, ids = '"delta":{"role":"assistant","content":""}', ""
        if self._ids:
            ids = sse.told_ids("prompt_token_ids", self._prompt)
        return b"".join(
            self._envelope.choice(index, role, usage=self._stats(), prompt_ids=ids)
            for index in range(len(self._readers))
        )

    def delta(self, delta: Delta) -> bytes:
        """The chunks of one step of one answer."""
        self._usage.add(delta)
        reader = self._readers[delta.index]
        if reader is None and self._plain and delta.finish_reason is None:
            return self._envelope.content(delta.index, delta.text) if delta.text else b""
        events = events_of(delta, reader)
        bodies = [_body(event) for event in events]
        chunks = []
        positions = positions_of(delta, reader, events, self._contents[delta.index]) if self._logprobs else []
        logprobs = sse.dumps(chat_logprobs(positions)) if positions else "null"
        ids = sse.told_ids("token_ids", delta.token_ids) if self._ids and delta.token_ids else ""
        if not bodies and (logprobs != "null" or (ids and delta.finish_reason is None)):
            bodies = ['"delta":{"content":""}']
        for body in bodies:
            chunks.append(self._envelope.choice(delta.index, body, logprobs=logprobs, usage=self._stats(), ids=ids))
            logprobs, ids = "null", ""
        if delta.finish_reason is not None:
            reason = finish_reason(delta, reader)
            chunks.append(
                self._envelope.choice(
                    delta.index,
                    '"delta":{}',
                    finish_reason=reason,
                    stop_reason=delta.stop_reason,
                    usage=self._stats(),
                    ids=ids,
                )
            )
        return b"".join(chunks)

    def closing(self) -> bytes:
        """The usage when it was asked for, then [DONE]."""
        usage = self._envelope.usage(self._usage.json()) if self._with_usage else b""
        return usage + sse.DONE

    def _stats(self) -> str:
        return self._usage.json() if self._continuous else ""


def _body(event: Event) -> str:
    """The `delta` of one event."""
    match event:
        case Content(text):
            return f'"delta":{{"content":{sse.quote(text)}}}'
        case Reasoning(text):
            quoted = sse.quote(text)
            return f'"delta":{{"reasoning":{quoted},"reasoning_content":{quoted}}}'
        case CallStart(index, call_id, name):
            function = f'"function":{{"name":{sse.quote(name)},"arguments":""}}'
            call = f'{{"index":{index},"id":{sse.quote(call_id)},"type":"function",{function}}}'
            return f'"delta":{{"tool_calls":[{call}]}}'
        case CallArguments(index, text):
            return f'"delta":{{"tool_calls":[{{"index":{index},"function":{{"arguments":{sse.quote(text)}}}}}]}}'
