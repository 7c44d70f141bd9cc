"""The console's routes: the page and its files for everybody, JSON for who may use a service."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from typing import Any

from aiohttp import web

from llmservice_console.assets import Assets
from llmservice_console.history import SAMPLES, STEP_SECONDS
from llmservice_gateway import errors
from llmservice_gateway.clients import Asking
from llmservice_gateway.console.details import details
from llmservice_gateway.console.engines import MOST_ASKED_BYTES, EnginesTable
from llmservice_gateway.console.facts import Facts, Json, NoFacts
from llmservice_gateway.console.once import Once
from llmservice_gateway.console.prometheus import MOST_SECONDS, Server, longer
from llmservice_gateway.console.sampler import Sampler
from llmservice_gateway.console.sending import API_HEADERS, ASSET_HEADERS, PAGE_HEADERS, Answer, sent
from llmservice_gateway.console.summary import State, summary, with_replicas
from llmservice_gateway.journal import ENTRY
from llmservice_gateway.keys.door import Door, shown_key
from llmservice_gateway.keys.errors import WRONG_KEY
from llmservice_gateway.keys.guesses import Guesses
from llmservice_gateway.naming import fields_of
from llmservice_gateway.proxy import Proxy
from llmservice_gateway.routing import Backend, Table
from llmservice_runtime.contract.version import VERSION
from llmservice_runtime.machine.gpu_table import NVIDIA
from llmservice_runtime.wire.errors import ApiError, bad_request, body_too_large
from llmservice_runtime.wire.server import expect_later

BASE = "/-/"
"""Below it everything of the console is: no namespace has this name."""
ASSETS, API = f"{BASE}assets", f"{BASE}api"
SESSION = f"{API}/session"
ENGINES = f"{API}/engines"
ONE = f"{API}/services/{{namespace}}/{{name}}"
NOT_HERE = (
    "A gateway of a cluster opens no address that somebody writes into a page. "
    "`llmservice engines URI --gpu KIND` says the same on any machine, and needs no cluster."
)
GPUS = sorted(product.split()[0] for line in NVIDIA.split("\n") for product in line.split("|") if product)
"""Products that a plan can be made for."""
REPLICAS_SECONDS = 2.0
"""A list of services waits so long for what replicas say that start."""


class Console:
    """`facts` tells what the data path does not know, and may be set later. `seen` gives what a request may see."""

    def __init__(self, proxy: Proxy, door: Door | None, seen: Callable[[web.Request], Table]) -> None:
        self.facts: Facts = NoFacts()
        self.engines: EnginesTable | None = None
        """Where models may be looked at that are not served; None = not here."""
        self.prometheus: Server | None = None
        """What knows more than the last hour; None = nothing does."""
        self._rooms, self._door, self._seen = proxy.rooms, door, seen
        self._proxy = proxy
        self._guesses = Guesses()
        self.sampler = Sampler(proxy.rooms, lambda: self.facts)
        self._assets = Assets()
        self._once = Once()
        self._known: dict[str, tuple[Backend, Json]] = {}
        self._gateway = f"{os.getpid()}-{secrets.token_hex(4)}"
        """Another one is another hour."""

    def add(self, app: web.Application) -> None:
        """All routes but the page at `/`, and what runs meanwhile."""
        router = app.router
        router.add_get(f"{ASSETS}/{{digest}}/{{path:.+}}", self._asset)
        router.add_get(SESSION, self._session)
        router.add_get(f"{API}/services", self._services)
        router.add_get(ONE, self._details)
        router.add_get(f"{ONE}/history", self._history)
        router.add_post(ENGINES, self._table, expect_handler=expect_later)
        app.cleanup_ctx.append(self._lifetime)

    @staticmethod
    def is_ours(request: Asking) -> bool:
        """Whether it is about the console: neither counted nor written down, as it is asked every few seconds."""
        return request.path.startswith(BASE) or _asks_for_page(request)

    def is_open(self, request: web.Request) -> bool:
        """Whether it takes no key: what is the same for everybody, and the question whether one is needed.

        As it is routed: POST /-/assets/v1/chat/completions is a request to a service of such a name.
        """
        return _asks_for_page(request) or request.match_info.handler in (self._asset, self._session)

    async def page(self, request: web.Request) -> web.Response | None:
        """`/`, for browsers; None for others."""
        if not _asks_for_page(request):
            return None
        self._assets.look()
        return sent(request, self._assets.page(ASSETS), PAGE_HEADERS)

    async def _lifetime(self, _: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(self.sampler.run(), name="console")
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _asset(self, request: web.Request) -> web.Response:
        if not self._assets.digest:
            self._assets.look()
        asset = self._assets.file(request.match_info["path"])
        if asset is None:
            raise ApiError(404, f"The console has no file {request.path}; reload the page.", code="not_found")
        same = request.match_info["digest"] == self._assets.digest
        return sent(request, asset, ASSET_HEADERS if same else {**ASSET_HEADERS, "Cache-Control": "no-cache"})

    async def _session(self, request: web.Request) -> web.Response:
        key, problem = None, None
        if self._door is not None:
            shown, address = shown_key(request.headers), request.remote or ""
            if shown:
                await self._guesses.turn(address)
            try:
                key = self._door.enter(request.headers).name
            except ApiError as error:
                problem = error.code if shown or error.status != 401 else None
                if problem == WRONG_KEY and self._guesses.wrong(address, shown):
                    request[ENTRY].reason = WRONG_KEY  # which has it written down
        body: Json = {
            "keys": self._door is not None,
            "key": key,
            "problem": problem,
            "place": self.facts.place,
            "version": VERSION,
            "gateway": self._gateway,
            "engines": self._engines(),
            "prometheus": self.prometheus is not None,
            "historySeconds": SAMPLES * STEP_SECONDS,
            "sampleSeconds": STEP_SECONDS,
        }
        return sent(request, _answer(body), API_HEADERS)

    async def _services(self, request: web.Request) -> web.Response:
        table = self._seen(request)

        async def make() -> Answer:
            there = self._rooms.table.backends
            self._known = {name: known for name, known in self._known.items() if name in there}
            backends = [table.backends[name] for name in sorted(table.backends)]
            told = await asyncio.gather(*(self._summary(backend, table) for backend in backends))
            return _answer({"gateway": self._gateway, "services": told})

        return await self._told(request, "services", tuple(table.backends), make)

    async def _details(self, request: web.Request) -> web.Response:
        backend, table = self._one(request)

        async def make() -> Answer:
            name, facts = backend.full_name, self.facts
            replicas, events, explained = await asyncio.gather(
                facts.replicas(name), facts.events(name), facts.explain(name)
            )
            obj = facts.object(name)
            body = with_replicas(self._now(backend, table), replicas)
            body |= details(obj, hides=self._door is not None) if obj is not None else {}
            body |= {"replicas": list(replicas), "events": events.body or [], "eventsNote": events.note}
            return _answer({**body, "scaling": explained.body, "scalingNote": explained.note})

        return await self._told(request, "details", backend.full_name, make)

    async def _history(self, request: web.Request) -> web.Response:
        backend, _ = self._one(request)
        since, seconds = _whole(request, "since"), _whole(request, "seconds")
        if seconds > SAMPLES * STEP_SECONDS:
            return await self._longer(request, backend, seconds)

        async def make() -> Answer:
            told = self.sampler.history.told(backend.full_name, since)
            return _answer({"gateway": self._gateway, "step": STEP_SECONDS, **told})

        return await self._told(request, "history", (backend.full_name, since), make)

    async def _longer(self, request: web.Request, backend: Backend, seconds: int) -> web.Response:
        server = self.prometheus
        if server is None:
            raise bad_request(
                "`seconds`: the last hour is kept here; more is where the chart has prometheus.url.", "seconds"
            )
        if seconds > MOST_SECONDS:
            raise bad_request(f"`seconds` must be at most {MOST_SECONDS}.", "seconds")

        async def make() -> Answer:
            told = await longer(server, backend.full_name, seconds, time.time())
            return _answer({"gateway": self._gateway, **told})

        return await self._told(request, "longer", (backend.full_name, seconds), make)

    def _engines(self) -> Json:
        if self.engines is None:
            return {"allowed": False, "why": NOT_HERE, "gpus": []}
        return {"allowed": True, "why": "", "gpus": GPUS}

    async def _table(self, request: web.Request) -> web.Response:
        if self.engines is None:
            raise ApiError(403, NOT_HERE, code="engines_not_here")
        body = await self._proxy.bodies.read(request)
        try:
            if len(body.data) > MOST_ASKED_BYTES:
                raise body_too_large(MOST_ASKED_BYTES)
            asked = fields_of(body.data)
        finally:
            body.drop()
        return sent(request, _answer(await self.engines.ask(asked)), API_HEADERS)

    async def _told(
        self, request: web.Request, what: str, of: Hashable, make: Callable[[], Awaitable[Answer]]
    ) -> web.Response:
        return sent(request, await self._once.get((what, of), make), API_HEADERS)

    async def _summary(self, backend: Backend, table: Table) -> Json:
        told = self._now(backend, table)
        if told["state"] != State.STARTING:
            return told
        try:
            async with asyncio.timeout(REPLICAS_SECONDS):
                return with_replicas(told, await self.facts.replicas(backend.full_name))
        except TimeoutError:
            return told

    def _now(self, backend: Backend, table: Table) -> Json:
        name = backend.full_name
        known = self._known.get(name)
        if known is None or known[0] is not backend:  # which is made anew when anything of its service changes
            told = {**summary(backend, self.facts.object(name)), "wanted": self.facts.wanted(name)}
            known = self._known[name] = backend, told
        demand, (held, in_flight) = self._rooms.demand(name), self.facts.elsewhere(name)
        row = self.sampler.history.last(name)
        return {
            **known[1],
            "aliases": sorted(alias for alias, led in table.aliases.items() if led == name),
            "now": {
                "held": demand.held + held,
                "inFlight": demand.in_flight + in_flight,
                "tokensPerSecond": row.get("tokensPerSecond"),
                "kvUsed": row.get("kvUsed"),
            },
        }

    def _one(self, request: web.Request) -> tuple[Backend, Table]:
        """The service in the path, for who may use it."""
        table, name = self._seen(request), f"{request.match_info['namespace']}/{request.match_info['name']}"
        backend = table.backends.get(name)
        if backend is None:
            raise errors.model_not_found(name, table)
        return backend, table


def _asks_for_page(request: Asking) -> bool:
    """Browsers name HTML; Ollama's clients, which look here whether it runs, do not."""
    return (
        request.path == "/" and request.method in ("GET", "HEAD") and "text/html" in request.headers.get("Accept", "")
    )


def _whole(request: web.Request, name: str) -> int:
    """A number in the query; 0 where there is none."""
    text = request.query.get(name, "0")
    if not text.isdecimal() or len(text) > 12:
        raise bad_request(f"`{name}` must be a whole number of seconds, as 1790000000.", name)
    return int(text)


def _answer(body: Any) -> Answer:
    return Answer(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(errors="replace"))
