"""The gateway's HTTP surface: one OpenAI base URL for all services, and one per service."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from aiohttp import web
from prometheus_client.exposition import generate_latest

from llmservice_gateway import catalogue, errors
from llmservice_gateway.bodies import Body
from llmservice_gateway.clients import Asking, client_of
from llmservice_gateway.console.routes import Console
from llmservice_gateway.dialects.apart import translated
from llmservice_gateway.dialects.dialect import ONE, Dialect
from llmservice_gateway.dialects.registry import DIALECTS, NO_NAMESPACE, manners_at, spoken
from llmservice_gateway.journal import ENTRY, GONE, Entry, Journal, Write, request_id
from llmservice_gateway.keys.door import Door
from llmservice_gateway.keys.errors import WRONG_KEY
from llmservice_gateway.keys.ring import Owner
from llmservice_gateway.launching.errors import key_may_not
from llmservice_gateway.launching.launcher import Launcher
from llmservice_gateway.launching.routes import LaunchRoutes
from llmservice_gateway.metrics import GatewayMetrics
from llmservice_gateway.naming import Asked, named, read_asked, with_adapter
from llmservice_gateway.other_routes import AUTH, OtherRoutes
from llmservice_gateway.proxy import Limits, Proxy
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
from llmservice_runtime.wire.callers import Callers, protect
from llmservice_runtime.wire.callers import told as cors
from llmservice_runtime.wire.errors import ApiError, body_too_large, error_response, internal
from llmservice_runtime.wire.plain import Answer, Plain
from llmservice_runtime.wire.priority import is_batch
from llmservice_runtime.wire.server import CLIENT_SECONDS, PLAIN, expect_later

log = logging.getLogger(__name__)

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

UNTOLD = frozenset({"/metrics", "/healthz"})
"""Asked every few seconds, and nothing to know about."""

REFUSED = range(400, GONE)
"""Statuses of a console's requests that are counted and written down: the others come every few seconds."""

NAMED = "{model:(?![^/]+/v1/).+}"
"""A model in a path, and not the rest of a service's own URL: a namespace may be called `models`."""

ID_HEADER = "X-Request-Id"
UNREAD = cors("")
"""Headers of an answer that no page may read."""

TAKEN = frozenset({*NO_NAMESPACE.split("|"), "models", "-", ""})
"""First words of more than the routes below a service: aiohttp tells them apart."""

OWNER = web.RequestKey("owner", Owner)

Handler = Callable[[Any], Awaitable[web.StreamResponse]]


class Gateway:
    """A proxy with its routes. `publish` a table, `application()` once, serve it by `ApiRunner`, handlers cancelled.

    Without `callers` it serves this machine alone. `access` takes the lines of the access log, and waits for nothing.
    `door` asks for API keys; None: everybody may ask for everything. `console`: browsers get a page at `/`.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        callers: Callers | None = None,
        access: Write | None = None,
        door: Door | None = None,
        *,
        console: bool = False,
    ) -> None:
        self._door = door
        self._open = frozenset({AUTH})
        """Paths that take no key."""
        self._callers = callers or Callers()
        self._journal = Journal(access)
        self.proxy = Proxy(limits or Limits())
        self.metrics = GatewayMetrics(self.proxy.rooms)
        self._ways: dict[str, Answer] = {}
        """What answers plain requests, by the path of its route."""
        self.launcher: Launcher | None = None
        """Launches and removes models for clients; None = none does."""
        self.console = Console(self.proxy, door, self._seen) if console else None
        if door is not None:
            self.metrics.shared_by(lambda: door.gateways())

    @property
    def private(self) -> bool:
        """Whether it serves programs of this machine alone."""
        return self._callers.private

    def application(self, *, alone: bool = True) -> web.Application:
        """The aiohttp application; its handlers must be cancelled when their client disconnects.

        `alone`: there is no other port for health and metrics, so they are here.
        """
        app = web.Application(middlewares=[self._answer_errors], client_max_size=self.proxy.limits.body_bytes)
        app[CLIENT_SECONDS] = lambda: self.proxy.limits.idle_seconds  # who takes nothing has a place, or much memory
        app.on_response_prepare.append(_tell_id)
        protect(app, self._callers, _refusal)
        if self._door is not None:
            app.middlewares.append(self._let_in)
        router = app.router
        if alone:
            self._open |= UNTOLD
            router.add_get("/healthz", self._healthz)
            router.add_get("/metrics", self.told)
        LaunchRoutes(
            lambda: self.launcher,
            self._seen,
            lambda: self.proxy.table,
            resolved,
            self._may_launch,
            self._may_ask,
            self.proxy.bodies,
            lambda: self.proxy.draining,
            self._model,
        ).add(router)
        for base in ("", "/v1", "/{namespace}/{name}/v1"):
            router.add_get(f"{base}/models", self._models)
            router.add_get(base + "/models/" + NAMED, self._model)
            for route in POSTED:
                self._add(router, base + route, partial(self._post, route))
            router.add_route("*", base + "/responses/{rest:.+}", self._stored)
        for dialect in DIALECTS:
            for path in (base + route for base in dialect.bases for route in dialect.routes):
                self._add(router, path, partial(self._translated, dialect))
        page = self.console.page if self.console else None
        OtherRoutes(self._addressed_table, resolved, self.proxy.bodies, page, keys=self._door is not None).add(router)
        if self.console:
            self.console.add(app)
        for route in ("/tokenize", "/detokenize", "/rerank", "/score"):  # vLLM has these beside /v1 too
            self._add(router, ONE + route, partial(self._post, route))

        async def lifetime(_: web.Application) -> Any:
            await self.proxy.open()
            yield
            await self.proxy.close()

        app.cleanup_ctx.append(lifetime)
        app[PLAIN] = self._take
        return app

    def _add(self, router: web.UrlDispatcher, path: str, handler: Handler) -> None:
        """A route for what is asked of services."""
        router.add_post(path, handler, expect_handler=expect_later)
        manners = manners_at("POST", path)
        id_header = manners.id_header if manners else ID_HEADER
        self._ways[path] = partial(self._plainly, partial(self._admitted, handler), id_header)

    @web.middleware
    async def _answer_errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Everything that goes wrong gets the one error body; every request is counted and has its line."""
        return await self._noted(request, handler, self._entry(request))

    def _entry(self, request: Asking) -> Entry:
        given = request_id(request.headers.get(ID_HEADER))
        entry = request[ENTRY] = Entry(given, request.method, request.path, asyncio.get_running_loop().time())
        return entry

    async def _noted(self, request: Asking, handler: Handler, entry: Entry) -> web.StreamResponse:
        try:
            response = await self._answered(request, handler, entry)
            entry.status = response.status
            return response
        finally:
            if self.console is None or not self.console.is_ours(request) or entry.status in REFUSED or entry.reason:
                self._over(request, entry, asyncio.get_running_loop().time())

    def _over(self, request: Asking, entry: Entry, now: float) -> None:
        if entry.reason == WRONG_KEY:
            entry.address = request.remote or ""
        self.metrics.over(entry)
        if self.console:
            self.console.sampler.over(entry)
        if self._door is not None:
            self._count(request, entry)
        if request.path not in UNTOLD:
            self._journal.note(entry, now)

    async def _answered(self, request: Asking, handler: Handler, entry: Entry) -> web.StreamResponse:
        try:
            return await handler(request)
        except ApiError as error:
            entry.reason = error.code
            return _refusal(request, error)
        except web.HTTPRequestEntityTooLarge:
            return _refusal(request, body_too_large(self.proxy.limits.body_bytes))
        except web.HTTPMethodNotAllowed as error:
            allowed = ", ".join(sorted(error.allowed_methods))
            return _refusal(request, errors.method_not_allowed(request.method, request.path, allowed))
        except web.HTTPNotFound:
            return _refusal(request, errors.no_route(request.method, request.path))
        except web.HTTPException as error:
            return _refusal(request, ApiError(error.status, f"{error.reason}.", code="http_error"))
        except ConnectionError:
            raise  # the client went away
        except Exception:
            log.exception("request failed: %s %s", request.method, request.path)
            return _refusal(request, internal("The gateway failed on this request; its log says why."))

    @web.middleware
    async def _let_in(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Only with a key, whatever is asked for: who has none learns nothing, and sends no body."""
        assert self._door is not None
        if not self._is_open(request):
            self._enter(request, self._door)
        return await handler(request)

    def _enter(self, request: Asking, door: Door) -> None:
        owner = request[OWNER] = door.enter(request.headers)
        request[ENTRY].key = owner.name

    def _take(self, request: Plain) -> Answer | None:
        """What answers a plain request: the same as of the route that aiohttp would find, in the same steps."""
        found = self._ways.get(request.path)
        if found is None:
            _, namespace, name, rest = (*request.path.split("/", 3), "", "", "")[:4]
            request.match_info = {"namespace": namespace, "name": name}
            found = self._ways.get(f"{ONE}/{rest}") if name and namespace not in TAKEN else None
        return found

    async def _plainly(self, admitted: Handler, id_header: str, request: Plain) -> web.StreamResponse:
        entry = self._entry(request)
        request.extra = {**UNREAD, ID_HEADER: entry.request_id, id_header: entry.request_id}
        return await self._noted(request, admitted, entry)

    async def _admitted(self, handler: Handler, request: Plain) -> web.StreamResponse:
        try:
            self._callers.check(request.method, request.headers)
        except ApiError as error:
            return _refusal(request, error)
        if self._door is not None:
            self._enter(request, self._door)
        return await handler(request)

    def _is_open(self, request: web.Request) -> bool:
        if request.rel_url.raw_path in self._open:  # as it is routed: a slash that is written %2F is none
            return True
        return self.console is not None and self.console.is_open(request)

    def _count(self, request: Asking, entry: Entry) -> None:
        """What a request with a key took, which its limits and its day have to know."""
        owner = request.get(OWNER)
        if self._door is not None and owner is not None and entry.replica:
            self._door.over(owner, entry.prompt_tokens, entry.answer_tokens, entry.spent)

    def _seen(self, request: Asking) -> Table:
        """The services that exist for this client."""
        table = self.proxy.table
        return table if self._door is None else self._door.sees(request[OWNER], table)

    def _may_launch(self, request: Asking, service: str) -> None:
        """ApiError 403 where the request's key has no right to launch or remove this service."""
        if self._door is not None:
            owner = request[OWNER]
            if not (owner.record.launch and owner.record.may_use(service)):
                raise key_may_not(owner.name, service)

    def _may_ask(self, request: Asking) -> None:
        """ApiError 429 where its key has asked enough."""
        if self._door is not None:
            self._door.ask(request[OWNER])

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def told(self, _: web.Request) -> web.Response:
        """/metrics."""
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return web.Response(body=generate_latest(self.metrics.registry), headers={"Content-Type": kind})

    async def _models(self, request: web.Request) -> web.Response:
        shown = self._addressed_table(request).shown(aliases="name" not in request.match_info)
        return web.json_response({"object": "list", "data": [catalogue.entry(*each) for each in shown]})

    async def _model(self, request: web.Request) -> web.Response:
        model = request.match_info["model"]
        found = resolved(self._addressed_table(request), model)
        name = model if model in self.proxy.table.aliases else found.full_name
        return web.json_response(catalogue.entry(name, found))

    async def _post(self, route: str, request: Asking) -> web.StreamResponse:
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

    async def _translated(self, dialect: Dialect, request: Asking) -> web.StreamResponse:
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
        if self._door is not None:
            self._may_ask(request)
        request[ENTRY].batch = is_batch(request.headers)
        return await self.proxy.bodies.read(request)

    async def _answer(
        self, request: Asking, body: Body, meant: Meant, asked: Asked, path: str, speech: Speech | None = None
    ) -> web.StreamResponse:
        backend, entry = meant.backend, request[ENTRY]
        entry.service, entry.adapter = name, adapter = backend.full_name, meant.adapter
        if adapter:
            if asked.model != adapter:
                body.put("model", json.dumps(adapter))  # the name by which every engine knows it
        elif asked.model and asked.model not in (name, backend.name) and self.proxy.table.means(asked.model, backend):
            body.put("model", json.dumps(name))  # an alias or another spelling, which no engine knows
        if adapter:
            asked = with_adapter(asked, adapter)
        who = partial(client_of, request, entry.key, asked.user, adapter)
        return await self.proxy.answer(request, name, path, body, asked, who, speech)

    async def _stored(self, _: web.Request) -> web.StreamResponse:
        """What only servers that keep responses have."""
        raise errors.nothing_stored()

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
            return resolved(self._seen(request), named(asked))
        backend = self._addressed(request)
        if not backend.adapters:
            return Meant(backend)
        if backend.adapter(asked.model) is not None:
            return Meant(backend, asked.model)
        try:
            return self._seen(request).only(backend).meant(asked.model)
        except UnknownAdapterError as error:
            raise errors.adapter_not_found(error) from None
        except UnknownModelError:
            return Meant(backend)

    def _addressed(self, request: Asking) -> Backend:
        """The service in the path."""
        table, name = self._seen(request), f"{request.match_info['namespace']}/{request.match_info['name']}"
        backend = table.backends.get(name)
        if backend is None:
            raise errors.model_not_found(name, table)
        return backend

    def _addressed_table(self, request: Asking) -> Table:
        """What there is below the base URL."""
        table = self._seen(request)
        return table.only(self._addressed(request)) if "name" in request.match_info else table


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


async def _tell_id(request: web.Request, response: web.StreamResponse) -> None:
    if entry := request.get(ENTRY):
        response.headers[ID_HEADER] = entry.request_id
        if manners := manners_at(request.method, request.path):
            response.headers[manners.id_header] = entry.request_id


def _refusal(request: Asking, error: ApiError) -> web.Response:
    """What went wrong, in the protocol that was asked in."""
    response = error_response(error)
    if manners := manners_at(request.method, request.path):
        response.body = json.dumps(manners.error(error)).encode()
    return response
