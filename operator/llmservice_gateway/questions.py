"""What clients ask of services: of which one, how much, and in which protocol."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

from aiohttp import web

from llmservice_gateway import errors
from llmservice_gateway.bodies import Body
from llmservice_gateway.clients import Asking, client_of
from llmservice_gateway.dialects.apart import translated
from llmservice_gateway.dialects.dialect import Dialect
from llmservice_gateway.dialects.registry import spoken
from llmservice_gateway.journal import ENTRY
from llmservice_gateway.keys.rights import Rights
from llmservice_gateway.naming import Asked, named, read_asked, with_adapter
from llmservice_gateway.proxy import Proxy
from llmservice_gateway.retelling import Told
from llmservice_gateway.routing import (
    AmbiguousModelError,
    Backend,
    Meant,
    Table,
    UnknownAdapterError,
    UnknownModelError,
)
from llmservice_gateway.speech import Speech
from llmservice_runtime.wire.errors import ApiError
from llmservice_runtime.wire.priority import is_batch

POSTED = {
    "/chat/completions": "/v1/chat/completions",
    "/completions": "/v1/completions",
    "/embeddings": "/v1/embeddings",
    "/rerank": "/v1/rerank",
    "/score": "/v1/score",
    "/tokenize": "/tokenize",
    "/detokenize": "/detokenize",
}
"""Route under a base URL -> path at the runtime."""

COMPUTING = frozenset({"/chat/completions", "/completions", "/embeddings", "/rerank", "/score"})
"""Those that need a place among a replica's sequences."""


class Questions:
    """Each is read, its service found, and answered by the proxy."""

    def __init__(self, proxy: Proxy, rights: Rights) -> None:
        self._proxy = proxy
        self._rights = rights

    def seen(self, request: Asking) -> Table:
        """The services that exist for this client."""
        return self._rights.sees(request, self._proxy.table)

    def addressed_table(self, request: Asking) -> Table:
        """What there is below the base URL."""
        table = self.seen(request)
        return table.only(self._addressed(request)) if "name" in request.match_info else table

    async def posted(self, route: str, request: Asking) -> web.StreamResponse:
        """One of POSTED."""
        body = await self._read(request)
        try:
            meant, asked = await self._asked(request, body.data)
            if route not in COMPUTING:
                asked = replace(asked, sequences=0, stream_options="")
            if dialect := spoken(route, "." in asked.model and meant.uid == asked.model, asked, body.data):
                return await self._retold(dialect, request, body)
            return await self._answer(request, body, meant, asked, POSTED[route])
        finally:
            body.drop()

    async def translated(self, dialect: Dialect, request: Asking) -> web.StreamResponse:
        """The same for a request and an answer in another protocol."""
        body = await self._read(request)
        try:
            return await self._retold(dialect, request, body)
        finally:
            body.drop()

    async def _retold(self, dialect: Dialect, request: Asking, body: Body) -> web.StreamResponse:
        entry = request[ENTRY]
        found = await translated(dialect, body.data)
        body.become(found.body)
        meant = self._meant(request, found.asked)
        if found.context_tokens > meant.backend.context_tokens > 0:
            raise errors.context_too_small(meant.backend, found.context_field, found.context_tokens)
        told = Told(dialect, found, meant.full_name, lambda: entry.queue_seconds)
        return await self._answer(request, body, meant, found.asked, found.path, told)

    async def _read(self, request: Asking) -> Body:
        """A request's body, if its key may ask now; it has to be dropped."""
        self._rights.ask(request)
        request[ENTRY].batch = is_batch(request.headers)
        return await self._proxy.bodies.read(request)

    async def _answer(
        self, request: Asking, body: Body, meant: Meant, asked: Asked, path: str, speech: Speech | None = None
    ) -> web.StreamResponse:
        backend, entry = meant.backend, request[ENTRY]
        entry.service, entry.adapter = name, adapter = backend.full_name, meant.adapter
        if adapter:
            if asked.model != adapter:
                body.put("model", json.dumps(adapter))  # the name by which every engine knows it
        elif asked.model and asked.model not in (name, backend.name) and self._proxy.table.means(asked.model, backend):
            body.put("model", json.dumps(name))  # an alias or another spelling, which no engine knows
        if adapter:
            asked = with_adapter(asked, adapter)
        who = partial(client_of, request, entry.key, asked.user, adapter)
        return await self._proxy.answer(request, name, path, body, asked, who, speech)

    async def _asked(self, request: Asking, body: bytes) -> tuple[Meant, Asked]:
        """What is meant, and how much is asked of it."""
        if "name" in request.match_info:
            try:
                asked = await read_asked(body)
            except ApiError:  # the path says enough to pass it on, and the replica says what is wrong with it
                asked = Asked(body_bytes=len(body))
        else:
            asked = await read_asked(body)
        return self._meant(request, asked), asked

    def _meant(self, request: Asking, asked: Asked) -> Meant:
        """By the path, if that names a service, which has its adapters by their bare names then; else by the body. What
        the path's service does not know, its replicas refuse."""
        if "name" not in request.match_info:
            return resolved(self.seen(request), named(asked))
        backend = self._addressed(request)
        if not backend.adapters:
            return Meant(backend)
        if backend.adapter(asked.model) is not None:
            return Meant(backend, asked.model)
        try:
            return self.seen(request).only(backend).meant(asked.model)
        except UnknownAdapterError as error:
            raise errors.adapter_not_found(error) from None
        except UnknownModelError:
            return Meant(backend)

    def _addressed(self, request: Asking) -> Backend:
        """The service in the path."""
        table, name = self.seen(request), f"{request.match_info['namespace']}/{request.match_info['name']}"
        backend = table.backends.get(name)
        if backend is None:
            raise errors.model_not_found(name, table)
        return backend


def resolved(table: Table, model: str) -> Meant:
    """What a model's name means. ApiError 404."""
    try:
        return table.meant(model)
    except UnknownModelError:
        raise errors.model_not_found(model, table) from None
    except UnknownAdapterError as error:
        raise errors.adapter_not_found(error) from None
    except AmbiguousModelError as error:
        raise errors.model_ambiguous(model, error) from None
