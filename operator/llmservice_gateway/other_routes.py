"""Routes of other protocols that ask no replica: what is served, and what is done elsewhere here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from llmservice_gateway import catalogue, errors
from llmservice_gateway.bodies import Bodies
from llmservice_gateway.dialects.dialect import ONE
from llmservice_gateway.naming import fields_of
from llmservice_gateway.routing import Backend, Meant, Table
from llmservice_runtime.wire.errors import bad_request, body_too_large
from llmservice_runtime.wire.server import expect_later

AUTH = "/v1/cluster/auth"
"""Where Xinference's client asks, without a key, whether it needs one."""
ALIVE = "Ollama is running"
"""What Ollama's clients look for at `/`."""
ELSEWHERE = (
    ("POST", "/push"), ("POST", "/create"), ("POST", "/copy"), ("POST", "/blobs/{digest}"), ("HEAD", "/blobs/{digest}"),
)  # fmt: skip
"""Ollama's routes that make models of others, or give them away."""
BELOW_ONE = (("POST", "/pull"), ("DELETE", "/delete"))
"""Those that bring and remove models, which there are none of below a service's own URL."""
SHOW_BYTES = 64 << 10
"""Of a body that only names a model: what is larger would hold up every stream while it is read."""

Resolve = Callable[[Table, str], Meant]
Page = Callable[[web.Request], Awaitable[web.Response | None]]


class OtherRoutes:
    """`table` has what a request may see below its base URL; `keys`: requests show one. `page` gives browsers what they
    get at `/`, and others nothing."""

    def __init__(
        self,
        table: Callable[[web.Request], Table],
        resolve: Resolve,
        bodies: Bodies,
        page: Page | None = None,
        *,
        keys: bool,
    ) -> None:
        self._table = table
        self._resolve = resolve
        self._bodies = bodies
        self._page = page
        self._keys = keys

    def add(self, router: web.UrlDispatcher) -> None:
        """All of them."""
        router.add_get("/", self._alive)
        for base in ("/api", f"{ONE}/api"):
            router.add_get(f"{base}/version", self._version)
            router.add_get(f"{base}/tags", self._tags)
            router.add_get(f"{base}/ps", self._running)
            router.add_post(f"{base}/show", self._show, expect_handler=expect_later)
            for method, route in ELSEWHERE:
                router.add_route(method, base + route, self._elsewhere, expect_handler=expect_later)
        router.add_get(f"{ONE}/info", self._info)
        router.add_get(f"{ONE}/health", self._health)
        router.add_get(AUTH, self._auth)
        router.add_get("/v1/engines/{model:.+}", self._engines)
        for method, route in BELOW_ONE:
            router.add_route(method, f"{ONE}/api{route}", self._elsewhere, expect_handler=expect_later)
        for method in ("POST", "DELETE"):
            router.add_route(method, "/v1/models/{model}/{replicas:replicas(/.+)?}", self._elsewhere)

    async def _alive(self, request: web.Request) -> web.Response:
        page = await self._page(request) if self._page else None
        return page or web.Response(text=ALIVE)

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": catalogue.OLLAMA_VERSION})

    async def _tags(self, request: web.Request) -> web.Response:
        return web.json_response({"models": [catalogue.tagged(*each) for each in self._table(request).shown()]})

    async def _running(self, request: web.Request) -> web.Response:
        found = [each for each in self._table(request).shown() if each[1].backend.having(each[1].adapter)]
        return web.json_response({"models": [catalogue.running(*each) for each in found]})

    async def _show(self, request: web.Request) -> web.Response:
        body = await self._bodies.read(request)
        try:
            if len(body.data) > SHOW_BYTES:
                raise body_too_large(SHOW_BYTES)
            given = fields_of(body.data)
        finally:
            body.drop()
        model = given.get("model") or given.get("name")
        if not isinstance(model, str):
            raise bad_request("`model` must name a service; GET /api/tags lists them.", "model", "model_required")
        return web.json_response(catalogue.shown(self._resolve(self._table(request), model)))

    async def _info(self, request: web.Request) -> web.Response:
        return web.json_response(catalogue.info(self._one(request)))

    async def _health(self, request: web.Request) -> web.Response:
        """Whether a request made now is served or held: who asks before it asks for more also wakes nobody."""
        backend = self._one(request)
        if not backend.replicas and (backend.unready.final or not backend.unready.held):
            raise errors.not_ready(backend)
        return web.Response()

    async def _auth(self, _: web.Request) -> web.Response:
        return web.json_response({"auth": self._keys})

    async def _engines(self, request: web.Request) -> web.Response:
        """`{type}/{name}`, or the name alone."""
        model, table = request.match_info["model"], self._table(request)
        kind, _, rest = model.partition("/")
        return web.json_response(
            catalogue.engines(self._resolve(table, rest if kind.lower() in catalogue.KINDS and rest else model).backend)
        )

    async def _elsewhere(self, request: web.Request) -> web.Response:
        raise errors.made_elsewhere(request.method, request.path)

    def _one(self, request: web.Request) -> Backend:
        """The service in the path."""
        return next(iter(self._table(request).backends.values()))
