"""The gateway's HTTP surface: one OpenAI base URL for all services, and one per service."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiohttp import web
from prometheus_client.exposition import generate_latest

from llmservice_gateway import catalogue, errors
from llmservice_gateway.clients import Asking
from llmservice_gateway.console.routes import Console
from llmservice_gateway.dialects.dialect import ONE
from llmservice_gateway.dialects.registry import DIALECTS, NO_NAMESPACE, manners_at
from llmservice_gateway.journal import ENTRY, GONE, Entry, Journal, Write, request_id
from llmservice_gateway.keys.door import Door
from llmservice_gateway.keys.errors import WRONG_KEY
from llmservice_gateway.keys.rights import Rights
from llmservice_gateway.launching.launcher import Launcher
from llmservice_gateway.launching.routes import LaunchRoutes
from llmservice_gateway.metrics import GatewayMetrics
from llmservice_gateway.other_routes import AUTH, OtherRoutes
from llmservice_gateway.proxy import Limits, Proxy
from llmservice_gateway.questions import POSTED, Questions, resolved
from llmservice_runtime.wire.callers import Callers, protect
from llmservice_runtime.wire.callers import told as cors
from llmservice_runtime.wire.errors import ApiError, body_too_large, error_response, internal
from llmservice_runtime.wire.plain import Answer, Plain
from llmservice_runtime.wire.server import CLIENT_SECONDS, PLAIN, expect_later

log = logging.getLogger(__name__)

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
        self._rights = Rights(door)
        self._open = frozenset({AUTH})
        """Paths that take no key."""
        self._callers = callers or Callers()
        self._journal = Journal(access)
        self.proxy = Proxy(limits or Limits())
        self._questions = Questions(self.proxy, self._rights)
        self.metrics = GatewayMetrics(self.proxy.rooms)
        self._ways: dict[str, Answer] = {}
        """What answers plain requests, by the path of its route."""
        self.launcher: Launcher | None = None
        """Launches and removes models for clients; None = none does."""
        self.console = Console(self.proxy, door, self._questions.seen) if console else None
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
            self._questions.seen,
            lambda: self.proxy.table,
            resolved,
            self._rights.launch,
            self._rights.ask,
            self.proxy.bodies,
            lambda: self.proxy.draining,
            self._model,
        ).add(router)
        for base in ("", "/v1", "/{namespace}/{name}/v1"):
            router.add_get(f"{base}/models", self._models)
            router.add_get(base + "/models/" + NAMED, self._model)
            for route in POSTED:
                self._add(router, base + route, partial(self._questions.posted, route))
            router.add_route("*", base + "/responses/{rest:.+}", self._stored)
        for dialect in DIALECTS:
            for path in (base + route for base in dialect.bases for route in dialect.routes):
                self._add(router, path, partial(self._questions.translated, dialect))
        page = self.console.page if self.console else None
        OtherRoutes(
            self._questions.addressed_table, resolved, self.proxy.bodies, page, keys=self._door is not None
        ).add(router)
        if self.console:
            self.console.add(app)
        for route in ("/tokenize", "/detokenize", "/rerank", "/score"):  # vLLM has these beside /v1 too
            self._add(router, ONE + route, partial(self._questions.posted, route))

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
        self._rights.over(request, entry)
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
        if not self._is_open(request):
            self._rights.enter(request)
        return await handler(request)

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
        self._rights.enter(request)
        return await handler(request)

    def _is_open(self, request: web.Request) -> bool:
        if request.rel_url.raw_path in self._open:  # as it is routed: a slash that is written %2F is none
            return True
        return self.console is not None and self.console.is_open(request)

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def told(self, _: web.Request) -> web.Response:
        """/metrics."""
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return web.Response(body=generate_latest(self.metrics.registry), headers={"Content-Type": kind})

    async def _models(self, request: web.Request) -> web.Response:
        shown = self._questions.addressed_table(request).shown(aliases="name" not in request.match_info)
        return web.json_response({"object": "list", "data": [catalogue.entry(*each) for each in shown]})

    async def _model(self, request: web.Request) -> web.Response:
        model = request.match_info["model"]
        found = resolved(self._questions.addressed_table(request), model)
        name = model if model in self.proxy.table.aliases else found.full_name
        return web.json_response(catalogue.entry(name, found))

    async def _stored(self, _: web.Request) -> web.StreamResponse:
        """What only servers that keep responses have."""
        raise errors.nothing_stored()


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
