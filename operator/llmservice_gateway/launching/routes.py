"""Routes by which clients of Xinference and Ollama launch and remove models, where the installation lets them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from aiohttp import web

from llmservice_gateway.bodies import Bodies
from llmservice_gateway.dialects import ollama_answer, ollama_pull, xinference_launch
from llmservice_gateway.errors import gateway_draining
from llmservice_gateway.journal import ENTRY
from llmservice_gateway.launching import errors
from llmservice_gateway.launching.launcher import Begun, Download, Launcher
from llmservice_gateway.launching.standing import broken, failure_of, passing, progress, until_there
from llmservice_gateway.launching.wish import DEFAULT, Json, Wish
from llmservice_gateway.naming import fields_of
from llmservice_gateway.routing import Meant, Table
from llmservice_runtime.wire.errors import ApiError, bad_request, body_too_large
from llmservice_runtime.wire.server import expect_later

MOST_BYTES = 64 << 10
"""Of a body: what is larger would hold up every stream while it is read."""

log = logging.getLogger(__name__)

BEAT_SECONDS = 10.0
"""A pull's client, and what is between, hears something so often at least."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Resolve = Callable[[Table, str], Meant]
May = Callable[[web.Request, str], None]


class LaunchRoutes:
    """`launcher` None = nothing is launched by requests. `table` has what a request may see, and `whole` what there is;
    `may` raises ApiError where its key has no right to launch or remove a service, `ask` where it may ask nothing now;
    `model` answers GET /v1/models/M."""

    def __init__(
        self,
        launcher: Callable[[], Launcher | None],
        table: Callable[[web.Request], Table],
        whole: Callable[[], Table],
        resolve: Resolve,
        may: May,
        ask: Callable[[web.Request], None],
        bodies: Bodies,
        draining: Callable[[], bool],
        model: Handler,
    ) -> None:
        self._launcher = launcher
        self._table, self._whole = table, whole
        self._resolve = resolve
        self._may = may
        self._ask = ask
        self._bodies = bodies
        self._draining = draining
        self._model = model

    def add(self, router: web.UrlDispatcher) -> None:
        """All of them; before those that have the rest of a path for a model's name."""
        router.add_post("/v1/models", self._launch, expect_handler=expect_later)
        router.add_get("/v1/models/{model:[^/]+}/progress", self._progress)
        router.add_post("/v1/models/{model:[^/]+}/cancel", self._cancel)
        router.add_delete("/v1/models/{model:[^/]+(/[^/]+)?}", self._terminate)
        router.add_post("/api/pull", self._pull, expect_handler=expect_later)
        router.add_delete("/api/delete", self._delete, expect_handler=expect_later)

    async def _launch(self, request: web.Request) -> web.Response:
        """Answered when the model is there, or with `wait_ready=false` when other requests find it."""
        launcher = self._allowed(request)
        wish = xinference_launch.launch(await self._given(request), launcher.leave)
        begun = await self._begun(request, launcher, wish)
        waits = request.query.get("wait_ready", "true").lower() not in ("false", "0")
        try:
            async with aclosing(self._looks(launcher, begun)) as looks:
                async for _ in looks:
                    if not waits and begun.service in self._whole().backends:
                        break
        except ApiError:
            await self._given_up(launcher, begun)
            raise
        return web.json_response({"model_uid": begun.service.replace("/", ".", 1)})

    async def _progress(self, request: web.Request) -> web.StreamResponse:
        table, launcher = self._table(request), self._launcher()
        name = request.match_info["model"]
        if f"{name}/progress" in table.backends:  # which is called so
            request.match_info["model"] = f"{name}/progress"
            return await self._model(request)
        try:
            backend = self._resolve(table, name).backend
        except ApiError:
            if launcher is not None and (error := launcher.failure(name.replace(".", "/", 1))):
                raise error from None
            raise
        if broken(backend) and not passing(backend, time.time()):
            raise failure_of(backend)
        download = launcher.download(backend.full_name) if launcher else None
        return web.json_response(progress(backend, download))

    async def _cancel(self, request: web.Request) -> web.Response:
        return await self._removed(request, self._allowed(request), request.match_info["model"], files=False)

    async def _terminate(self, request: web.Request) -> web.Response:
        return await self._removed(request, self._allowed(request), request.match_info["model"], files=False)

    async def _delete(self, request: web.Request) -> web.Response:
        launcher = self._allowed(request)
        name = ollama_pull.named(await self._given(request))
        return await self._removed(request, launcher, name, files=True)

    async def _pull(self, request: web.Request) -> web.StreamResponse:
        """It goes on when its client leaves."""
        launcher = self._allowed(request)
        wish, streams = ollama_pull.pull(await self._given(request), launcher.leave)
        begun = await self._begun(request, launcher, wish)
        teller = ollama_pull.PullTeller(wish.word)
        response = web.StreamResponse(headers=ollama_answer.LINES)
        clock = asyncio.get_running_loop().time
        try:
            async with aclosing(self._looks(launcher, begun)) as looks:
                if streams:
                    await response.prepare(request)
                    await response.write(teller.begun().encode())
                told = clock()
                async for download in looks:
                    if streams and ((line := teller.tell(download)) or clock() - told >= BEAT_SECONDS):
                        await response.write((line or teller.again()).encode())
                        told = clock()
        except ApiError as error:
            await self._given_up(launcher, begun)
            if not streams:
                raise
            await response.write(teller.broken(error).encode())
            return response
        if not streams:
            return web.json_response({"status": "success"})
        await response.write(teller.end().encode())
        return response

    async def _removed(self, request: web.Request, launcher: Launcher, name: str, *, files: bool) -> web.Response:
        meant = self._resolve(self._table(request), name)
        service = meant.backend.full_name
        if meant.adapter:
            raise bad_request(f"{meant.full_name} is an adapter of {service}: edit `spec.adapters` of that.", "model")
        self._may(request, service)
        if not launcher.launched(service):
            raise errors.not_launched(service)
        request[ENTRY].service = service
        log.info("%s: a client removes it", service)
        await launcher.remove(service, files=files)
        return web.json_response(None)

    async def _begun(self, request: web.Request, launcher: Launcher, wish: Wish) -> Begun:
        """A request counts for a service that there is, whatever name it had for it."""
        if self._draining():
            raise gateway_draining()
        begun = await launcher.launch(self._placed(request, launcher, wish), partial(self._may, request))
        request[ENTRY].service = begun.service
        return begun

    def _looks(self, launcher: Launcher, begun: Begun) -> AsyncGenerator[Download | None]:
        return until_there(begun.service, launcher, self._whole, self._draining)

    async def _given_up(self, launcher: Launcher, begun: Begun) -> None:
        """Nobody is left with a service that never served: whoever asked for it has been told why. What a gateway that
        goes away has begun goes on."""
        if begun.made and not self._draining():
            await launcher.give_up(begun)

    async def _given(self, request: web.Request) -> Json:
        body = await self._bodies.read(request)
        try:
            if len(body.data) > MOST_BYTES:
                raise body_too_large(MOST_BYTES)
            return fields_of(body.data)
        finally:
            body.drop()

    def _allowed(self, request: web.Request) -> Launcher:
        if (launcher := self._launcher()) is None:
            raise errors.not_allowed(request.method, request.path)
        self._ask(request)
        return launcher

    def _placed(self, request: web.Request, launcher: Launcher, wish: Wish) -> Wish:
        """The wish with a namespace: the one that it names, else the first in which its key may launch it."""
        allowed = launcher.leave.namespaces
        if wish.namespace and allowed and wish.namespace not in allowed:
            raise errors.namespace_not_allowed(wish.namespace, allowed, "model_uid")
        *others, last = (wish.namespace,) if wish.namespace else allowed or (DEFAULT,)
        for namespace in others:
            try:
                self._may(request, f"{namespace}/{wish.called}")
            except ApiError:
                continue
            return replace(wish, namespace=namespace)
        self._may(request, f"{last}/{wish.called}")
        return replace(wish, namespace=last)
