"""The ASGI middleware before all of vLLM: who may call, what may start, what a request may say. Nothing is buffered but
request bodies and answers that are changed as a whole."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from llmservice_runtime.engines.vllm.serve import translate
from llmservice_runtime.engines.vllm.serve.answers import Answer, Changes, named, renaming
from llmservice_runtime.engines.vllm.serve.asgi import (
    App,
    ClientGoneError,
    Incoming,
    Message,
    Receive,
    Scope,
    Send,
    answer,
    entered,
    headers_of,
    refuse,
    replayed,
    while_there,
)
from llmservice_runtime.engines.vllm.serve.behind import Behind
from llmservice_runtime.engines.vllm.serve.counts import in_requests, plain
from llmservice_runtime.engines.vllm.serve.echo import Echoed
from llmservice_runtime.engines.vllm.serve.pooler import VllmPooler
from llmservice_runtime.engines.vllm.serve.running import Request, Running
from llmservice_runtime.engines.vllm.serve.served import Served
from llmservice_runtime.openai.drain import draining
from llmservice_runtime.openai.generation import as_api_error
from llmservice_runtime.openai.models import card, listed
from llmservice_runtime.openai.params import constraint
from llmservice_runtime.openai.pictures.headers import kept_pixels, most_tokens
from llmservice_runtime.openai.pooled import ENDPOINTS
from llmservice_runtime.openai.requests.body import PROMPTS, received
from llmservice_runtime.openai.requests.chat import ChatRequest
from llmservice_runtime.openai.requests.completion import CompletionRequest, DetokenizeRequest, TokenizeRequest
from llmservice_runtime.openai.requests.fields import Strict
from llmservice_runtime.openai.state import WRITING, Server
from llmservice_runtime.wire import sse
from llmservice_runtime.wire.callers import Callers, is_preflight, preflight, told
from llmservice_runtime.wire.errors import MAX_BODY_BYTES, ApiError, cut, internal, unavailable
from llmservice_runtime.wire.priority import is_batch

Body = dict[str, Any]
Read = tuple[type[Strict], int, Callable[[Any, Served], Awaitable[Body]]]

GENERATION: dict[str, Read] = {
    "/v1/chat/completions": (ChatRequest, 1, translate.chat),
    "/v1/completions": (CompletionRequest, PROMPTS, translate.completion),
}
"""Path -> the model of its body, contexts of text in it, and how vLLM takes it."""
TOKENS: dict[str, Read] = {
    "/tokenize": (TokenizeRequest, 1, translate.tokenize),
    "/detokenize": (DetokenizeRequest, 1, translate.detokenize),
}
PREFIXED = ("/chat/completions", "/completions", "/models", "/embeddings", "/rerank", "/score")
"""Answered without /v1 too."""
MODELS = "/v1/models"
SHOWN = ("/health", "/metrics", "/version")
"""What vLLM itself answers to GET. Its other paths are not of our API: some would abort what others asked."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Door:
    """What the gate looks at, and the plug-in sets. `served` is None while the model loads."""

    callers: Callers | None = None
    running: Running = field(default_factory=Running)
    served: Served | None = None


class Gate:
    """The middleware."""

    def __init__(self, app: App, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. No WebSocket is of our API."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        out = Outgoing(send)
        try:
            if callers := self._door.callers:
                headers = headers_of(scope)
                origin = callers.check(scope["method"], headers)
                out.add(told(origin))
                if origin and is_preflight(scope["method"], headers):
                    out.add(preflight(headers))
                    await answer(out.send, 204, b"", ())
                    return
            await self._pass(routed(scope), receive, out.send)
        except ClientGoneError:
            return
        except Exception as error:
            known = as_api_error(error)
            if known is None and out.started:
                raise
            if known is None:
                log.exception("%s %s failed", scope["method"], scope["path"])
                known = internal("This server failed to answer; its log says why.")
            await refuse(out.send, known)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, running, served = scope["path"], self._door.running, self._door.served
        if served is None:
            raise unavailable("The model is loading; retry.", "loading", 30)
        if path == "/health" and running.draining:
            raise draining()
        if path.startswith(MODELS):
            allowed(scope, "GET")
            await answer(send, 200, sse.dumps(_models(served.server, path)).encode())
        elif path in SHOWN:
            allowed(scope, "GET")
            if path == "/metrics" and isinstance(pooler := served.server.pooler, VllmPooler):
                scope, send = plain(scope), in_requests(send, *pooler.requests)
            await self._app(scope, receive, Answer(send, path).send)
        elif path in TOKENS:
            allowed(scope, "POST")
            async with self._read(TOKENS[path], scope, receive, served) as (again, body, _):
                changes = Changes(strings=served.tokenizer if body.get("return_token_strs") else None)
                await self._app(scope, again, Answer(send, path, changes).send)
        elif path in GENERATION:
            allowed(scope, "POST")
            served.server.check_task(*WRITING)
            with running.admitted(send) as admitted:
                await self._generate(scope, receive, served, admitted)
        elif path in ENDPOINTS:
            allowed(scope, "POST")
            endpoint, server = ENDPOINTS[path], served.server
            batch = is_batch(headers_of(scope))
            incoming = Incoming(scope, receive, MAX_BODY_BYTES)
            async with incoming.answerable():
                asked = await endpoint.read(server, incoming, apart=False)
            with running.admitted(send) as admitted:
                await answer(admitted.send, 200, await while_there(receive, endpoint.answer(server, asked, batch)))
        else:
            said = f"No such path: {cut(path)}. The API starts at /v1 (docs/api.md lists it)."
            raise ApiError(404, said, code="not_found")

    async def _generate(self, scope: Scope, receive: Receive, served: Served, admitted: Request) -> None:
        path, batch = scope["path"], is_batch(headers_of(scope))
        behind = served.behind if batch else None
        async with self._read(GENERATION[path], scope, receive, served, batch, behind) as (again, body, request):
            # What a step may take is told by the text, and by the pixels of pictures, not by their files.
            files = sum(4 * len(given.data) // 3 for given in request.pictures)
            length = max(0, int(headers_of(scope)["Content-Length"]) - files)
            admitted.body_bytes = length + sum(most_tokens(given.data) for given in request.pictures)
            # An echoed prompt has its tokens too, and none that are not in the text.
            wanted = body.get("logprobs")  # 0 asks for those of the chosen tokens
            logprobs = wanted is not None and wanted is not False and not body.get("echo")
            name = renaming(*named(served.server, request.model, body["model"]))
            held, ids = constraint(request), request.return_token_ids
            changes = Changes(
                served.thinks,
                name,
                logprobs,
                translate.no_usage(request),
                held[0] if held else "tools",
                tidy=True,
                ids=ids,
                echoed=Echoed(served.tokenizer, body["max_tokens"] != 0) if ids and body.get("echo") else None,
            )
            await self._app(scope, again, Answer(admitted.send, path, changes).send)

    @asynccontextmanager
    async def _read(
        self,
        how: Read,
        scope: Scope,
        receive: Receive,
        served: Served,
        batch: bool = False,
        behind: Behind | None = None,
    ) -> AsyncIterator[tuple[Receive, Body, Any]]:
        """The body, judged and written anew, and the request as it was read. Around the answer, as long as its pictures
        are here, and its turn with `behind`: that comes first, as live requests wait for the room of pictures."""
        model, prompts, translated = how
        incoming = Incoming(scope, receive, MAX_BODY_BYTES)
        server = served.server
        async with incoming.answerable():
            request: Any = await received(
                incoming,
                model,
                server.context_tokens,
                prompts,
                server.unsupported_fields,
                apart=False,
                pictures=server.sees,
            )
        pixels = sum(kept_pixels(given.data) for given in request.pictures)
        turns = [behind.turn(translate.answers_of(request))] if behind else []
        rooms = [*turns, served.looking.at(pixels, served.max_answers, batch=batch)] if pixels else []
        async with entered(receive, *rooms):
            wanted = await translated(request, served)
            if behind is not None:
                wanted |= behind.fields
            body = json.dumps(wanted, ensure_ascii=False).encode()
            dropped = (b"content-length", b"content-encoding", b"content-type", b"transfer-encoding")
            headers = [(name, value) for name, value in scope["headers"] if name not in dropped]
            scope["headers"] = [
                *headers, (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())
            ]  # fmt: skip
            async with entered(receive, *(() if pixels else turns)):
                yield replayed(body, receive), wanted, request


def _models(server: Server, path: str) -> dict[str, Any]:
    """The list, or one name, which may contain slashes."""
    name = path.removeprefix(MODELS).removeprefix("/")
    return card(server, server.check_model(name)) if name else listed(server)


def allowed(scope: Scope, method: str) -> None:
    """ApiError 405 for another method, 417 for an expectation that can't be met."""
    asked = scope["method"]
    if asked != method and (asked, method) != ("HEAD", "GET"):
        said = f"{cut(asked)} is not allowed on {cut(scope['path'])}; use {method}."
        raise ApiError(405, said, code="method_not_allowed", headers={"Allow": method})
    expected = headers_of(scope).get("Expect", "")
    if expected and expected.lower() != "100-continue":
        raise ApiError(417, f"`Expect: {cut(expected)}` can't be met; use 100-continue.", code="expectation")


def routed(scope: Scope) -> Scope:
    """With the path under which vLLM has what was asked for."""
    path: str = scope["path"]
    if path in PREFIXED or path.startswith("/models/"):
        path = f"/v1{path}"
    elif path.removeprefix("/v1") in TOKENS:
        path = path.removeprefix("/v1")
    return scope if path == scope["path"] else {**scope, "path": path, "raw_path": path.encode()}


class Outgoing:
    """A `send` that adds headers, and knows whether an answer has begun."""

    def __init__(self, send: Send) -> None:
        self.started = False
        self._send = send
        self._more: list[tuple[bytes, bytes]] = []

    def add(self, headers: Mapping[str, str]) -> None:
        """To those of the answer."""
        self._more += [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]

    async def send(self, message: Message) -> None:
        """One message."""
        if message["type"] == "http.response.start":
            self.started = True
            message["headers"] = [*message["headers"], *self._more]
        await self._send(message)
