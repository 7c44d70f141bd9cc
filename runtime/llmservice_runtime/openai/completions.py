"""POST /v1/completions."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from llmservice_runtime.openai.encoding import encode
from llmservice_runtime.openai.generation import check, submitted
from llmservice_runtime.openai.logprobs import CompletionLogprobs, text_of
from llmservice_runtime.openai.params import answer_length, checked, constraint, sampling, too_long
from llmservice_runtime.openai.requests.body import PROMPTS, received
from llmservice_runtime.openai.requests.completion import CompletionRequest
from llmservice_runtime.openai.requests.fields import MAX_CHOICES
from llmservice_runtime.openai.state import SERVER, WRITING, Server
from llmservice_runtime.openai.stream import stream
from llmservice_runtime.openai.usage import Usage
from llmservice_runtime.protocol.engine import Delta, GenerationRequest, Tokenizer, TokenLogprob
from llmservice_runtime.wire import sse
from llmservice_runtime.wire.errors import bad_request, unsupported
from llmservice_runtime.wire.priority import is_batch


async def completions(http: web.Request) -> web.StreamResponse:
    """Complete one or several prompts, streamed or whole."""
    server = http.app[SERVER]
    server.check_task(*WRITING)
    batch = is_batch(http.headers)
    request = await received(http, CompletionRequest, server.context_tokens, PROMPTS, server.unsupported_fields)
    with server.drain.admitted():
        model = server.check_model(request.model)
        plan = await plan_completion(server, request)
        if request.max_tokens == 0 and request.logprobs is None:
            return _respond(plan, [_echo_only(plan, number) for number in range(plan.choices)], model, plan.usage())
        async with submitted(server.ready_engine(), plan.generations, batch=batch) as deltas:
            if request.stream:
                return await stream(http, deltas, CompletionWriter(plan, model), server.drain)
            answers = [_Answer(plan, number) for number in range(plan.choices)]
            usage = plan.usage()
            async for delta in deltas:
                usage.add(check(delta))
                answers[delta.index].add(delta)
    if request.max_tokens == 0:
        usage.completion_tokens = 0
    return _respond(plan, [answer.choice() for answer in answers], model, usage)


@dataclass(frozen=True, slots=True)
class CompletionPlan:
    """One generation per prompt; choice k belongs to prompt k // n."""

    request: CompletionRequest
    request_id: str
    generations: list[GenerationRequest]
    prompts: list[str]
    """The prompts' texts, for `echo`."""

    @property
    def choices(self) -> int:
        return len(self.generations) * self.request.n

    def usage(self) -> Usage:
        return Usage(sum(len(generation.prompt_tokens) for generation in self.generations))

    def prompt(self, choice: int) -> str:
        return self.prompts[choice // self.request.n]

    def ids(self, choice: int) -> Sequence[int]:
        """Of its prompt's tokens, where ids are told; else none."""
        return self.generations[choice // self.request.n].prompt_tokens if self.request.return_token_ids else ()


async def plan_completion(server: Server, request: CompletionRequest) -> CompletionPlan:
    """Everything that can be refused is refused here, before queueing."""
    engine = server.ready_engine()
    _check(request)
    prompts = await _prompts(request, engine.tokenizer, engine.vocab_size, server.context_tokens)
    held = constraint(request)
    grammar = None if held is None else await checked(engine, held[1], held[0])
    request_id = f"cmpl-{uuid.uuid4().hex}"
    generations = []
    for number, tokens in enumerate(prompts):
        # Log-probabilities of a prompt come with its first step, so an answer of no tokens is one that is not shown.
        wanted = 1 if request.max_tokens == 0 else request.max_tokens
        max_tokens = answer_length(len(tokens), wanted, server.context_tokens, "prompt")
        params = sampling(
            request, max_tokens=max_tokens, logprobs=request.logprobs, grammar=grammar, vocab_size=engine.vocab_size
        )
        echo_logprobs = request.echo and request.logprobs is not None
        generations.append(
            GenerationRequest(
                f"{request_id}-{number}", tokens, params, request.n, echo_logprobs, server.adapter(request.model)
            )
        )
    texts = [engine.tokenizer.decode(tokens, skip_special=True) for tokens in prompts] if request.echo else []
    return CompletionPlan(request, request_id, generations, texts)


def _check(request: CompletionRequest) -> None:
    if request.best_of is not None and request.best_of != request.n:
        raise unsupported("best_of", f"it must equal `n` ({request.n}); every answer that is generated is returned.")
    if request.max_tokens == 0 and not request.echo:
        raise bad_request("`max_tokens` is 0: nothing to generate; use at least 1, or `echo`.", "max_tokens")
    if request.max_tokens == 0 and request.stream:
        raise bad_request("`max_tokens` is 0: nothing to stream; use at least 1.", "max_tokens")


async def _prompts(
    request: CompletionRequest, tokenizer: Tokenizer, vocab_size: int, context_tokens: int
) -> list[list[int]]:
    """Token ids of every prompt; ApiError 400 for an empty one or an id that the model does not have."""
    given = request.prompt
    items: list[Any] = [given] if isinstance(given, str) or not given or isinstance(given[0], int) else list(given)
    if len(items) * request.n > MAX_CHOICES:
        raise bad_request(
            f"`prompt` has {len(items)} prompts with `n` {request.n}; at most {MAX_CHOICES} choices fit a request.",
            "prompt",
        )
    prompts = []
    for item in items:
        if isinstance(item, str):
            tokens = await encode(tokenizer, item, request.add_special_tokens, context_tokens=context_tokens)
        elif len(item) >= context_tokens:
            raise too_long(context_tokens, str(len(item)), "prompt")
        else:
            tokens = list(item)
        if not tokens:
            raise bad_request("`prompt` has no tokens.", "prompt")
        wrong = next((token for token in tokens if not 0 <= token < vocab_size), None)
        if wrong is not None:
            raise bad_request(f"`prompt` has token id {wrong}; this model's ids are 0 to {vocab_size - 1}.", "prompt")
        prompts.append(tokens)
    return prompts


@dataclass(slots=True)
class _Answer:
    """One choice that is not streamed, while it grows."""

    plan: CompletionPlan
    number: int
    text: list[str] = field(default_factory=list)
    prompt_positions: list[TokenLogprob | None] = field(default_factory=list)
    positions: list[TokenLogprob] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    last: Delta | None = None

    def add(self, delta: Delta) -> None:
        self.last = delta
        self.prompt_positions += delta.prompt_logprobs or []
        if self.plan.request.max_tokens != 0:
            self.text.append(delta.text)
            if self.plan.request.return_token_ids:
                self.token_ids += delta.token_ids
            self.positions += delta.logprobs or []

    def choice(self) -> dict[str, Any]:
        request = self.plan.request
        prompt = self.plan.prompt(self.number) if request.echo else ""
        logprobs = None
        if request.logprobs is not None:
            first = prompt[: _first_length(prompt, self.prompt_positions)]
            logprobs = CompletionLogprobs(self.plan.ids(self.number)).body(
                [*self.prompt_positions, *self.positions], first
            )
        return {
            "index": self.number,
            "text": prompt + "".join(self.text),
            "logprobs": logprobs,
            "finish_reason": "length" if request.max_tokens == 0 else self.last and self.last.finish_reason,
            "stop_reason": self.last.stop_reason if self.last else None,
            **_with_ids(self.plan, self.number, self.token_ids),
        }


def _first_length(prompt: str, positions: Sequence[TokenLogprob | None]) -> int:
    """Characters of a prompt's first token, which has no logprob: what the other prompt tokens leave."""
    rest = sum(len(text_of(p)) for p in positions if p is not None)
    return max(0, len(prompt) - rest)


def _echo_only(plan: CompletionPlan, number: int) -> dict[str, Any]:
    """`max_tokens: 0` with `echo`: the prompt itself, nothing generated."""
    text = plan.prompt(number)
    ends = {"finish_reason": "length", "stop_reason": None}
    return {"index": number, "text": text, "logprobs": None, **ends, **_with_ids(plan, number, [])}


def _with_ids(plan: CompletionPlan, number: int, token_ids: list[int]) -> dict[str, Any]:
    """What a choice says of its tokens, where that was asked for."""
    prompt = plan.ids(number)
    return {"prompt_token_ids": list(prompt), "token_ids": token_ids} if prompt else {}


def _respond(plan: CompletionPlan, choices: list[dict[str, Any]], model: str, usage: Usage) -> web.Response:
    body = {
        "id": plan.request_id,
        "object": "text_completion",
        "created": int(time.time()),
        "model": model,
        "choices": choices,
        "usage": usage.body(),
    }
    return web.Response(text=sse.dumps(body), content_type="application/json")


class CompletionWriter:
    """Deltas to chunks of text; with `echo` the prompt opens each choice."""

    def __init__(self, plan: CompletionPlan, model: str) -> None:
        request = plan.request
        self._plan = plan
        self._envelope = sse.Envelope(plan.request_id, "text_completion", int(time.time()), model)
        self._logprobs = (
            [CompletionLogprobs(plan.ids(number)) for number in range(plan.choices)]
            if request.logprobs is not None
            else None
        )
        self._ids = request.return_token_ids
        options = request.stream_options
        self._continuous = options is not None and options.continuous_usage_stats
        self._with_usage = options is not None and options.include_usage
        self._plain = self._logprobs is None and not self._continuous and not self._ids
        self._usage = plan.usage()
        self._echoed = [not request.echo] * plan.choices
        self._prompted = [False] * plan.choices
        """Which choices have told their prompt's ids."""

    def opening(self) -> bytes:
        """Completions have no role to announce."""
        return b""

    def delta(self, delta: Delta) -> bytes:
        """The chunk of one step of one choice."""
        self._usage.add(delta)
        text = delta.text
        echo = "" if self._echoed[delta.index] else self._plan.prompt(delta.index)
        self._echoed[delta.index] = True
        if self._plain and delta.finish_reason is None:
            return self._envelope.text(delta.index, echo + text) if echo or text else b""
        logprobs = "null"
        if self._logprobs is not None:
            positions = [*(delta.prompt_logprobs or []), *(delta.logprobs or [])]
            first = echo[: _first_length(echo, delta.prompt_logprobs or [])]
            logprobs = sse.dumps(self._logprobs[delta.index].body(positions, first)) if positions else "null"
        ids = self._told(delta) if self._ids else ""
        if not (echo or text or logprobs != "null" or ids or delta.finish_reason):
            return b""
        return self._envelope.choice(
            delta.index,
            f'"text":{sse.quote(echo + text)}',
            logprobs=logprobs,
            finish_reason=delta.finish_reason and str(delta.finish_reason),
            stop_reason=delta.stop_reason,
            usage=self._usage.json() if self._continuous else "",
            ids=ids,
        )

    def _told(self, delta: Delta) -> str:
        """The ids that a chunk has."""
        ids = sse.told_ids("token_ids", delta.token_ids) if delta.token_ids else ""
        if not self._prompted[delta.index]:
            self._prompted[delta.index] = True
            ids = sse.told_ids("prompt_token_ids", self._plan.ids(delta.index)) + ids
        return ids

    def closing(self) -> bytes:
        """The usage when it was asked for, then [DONE]."""
        usage = self._envelope.usage(self._usage.json()) if self._with_usage else b""
        return usage + sse.DONE
