"""The instance's control socket: HTTP on a unix socket that only its user can open."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections import Counter
from collections.abc import Callable

from aiohttp import web

from llmservice_cli.local.front import Front
from llmservice_cli.local.instance import Instance
from llmservice_cli.local.order import Order
from llmservice_runtime.contract.errors import UserError

HEARTBEAT_SECONDS = 1.0


class ControlServer:
    """Routes of the control socket; `end` is called once everything has been stopped on request. `front`: as the
    instance started."""

    def __init__(self, instance: Instance, end: Callable[[], None], front: Front) -> None:
        self._instance = instance
        self._front = dataclasses.asdict(front)
        self._end = end
        self._stopping = False
        self._announced = Counter[str]()
        """How many prepare each service."""
        self._lent = Counter[str]()
        """How many have each service for a while."""
        self._ends = set[asyncio.Future[None]]()
        """Of services that somebody had for a while."""

    def application(self) -> web.Application:
        """Serve it with `handler_cancellation=True`."""
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_get("/services", self._services)
        app.router.add_get("/explain", self._explain)
        app.router.add_post("/announce", self._announce)
        app.router.add_post("/lend", self._lend)
        app.router.add_post("/keep", self._keep)
        app.router.add_post("/apply", self._apply)
        app.router.add_post("/scale", self._scale)
        app.router.add_post("/rest", self._rest)
        app.router.add_post("/down", self._down)
        return app

    async def _services(self, request: web.Request) -> web.Response:
        after, seconds = int(request.query.get("after", -1)), float(request.query.get("wait", 0))
        await self._instance.wait_newer(after, min(seconds, 30.0))
        lent = {name: count for name, count in self._lent.items() if count}
        return web.json_response({**self._instance.snapshot(), "front": self._front, "lent": lent})

    async def _explain(self, request: web.Request) -> web.Response:
        name = request.query.get("name", "")
        found = self._instance.known(name)
        if len(found) != 1:
            return web.json_response({"unknown": name, "candidates": found}, status=404)
        if (told := self._instance.explain(found[0])) is None:
            reason = f"demand decides nothing about {found[0]}, or not yet."
            remedy = "Set spec.scaling, and wait until it is prepared (`llmservice ps`)."
            return web.json_response({"reason": reason, "remedy": remedy}, status=409)
        return web.json_response(told)

    async def _announce(self, request: web.Request) -> web.StreamResponse:
        """The services are being prepared for as long as this request is kept open."""
        if refusal := self._refusal():
            return refusal
        orders = [Order.from_body(body) for body in await request.json()]
        names = [order.service.full_name for order in orders]
        self._announced.update(names)
        for order in orders:
            if not self._instance.has(order.service.full_name):
                self._instance.apply(order)
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            await asyncio.Event().wait()
        finally:
            self._announced.subtract(names)
            self._instance.forget_unprepared([name for name in names if not self._announced[name]])
        return response

    async def _lend(self, request: web.Request) -> web.StreamResponse:
        """The services serve for as long as such a request is kept open; whoever keeps it may be killed."""
        if refusal := self._refusal():
            return refusal
        names: list[str] = await request.json()
        self._lent.update(names)
        try:
            response = web.StreamResponse()
            await response.prepare(request)
            await asyncio.Event().wait()
        finally:
            self._lent.subtract(names)
            if left := [name for name in names if not self._lent[name] and self._instance.known(name)]:
                end = asyncio.ensure_future(self._instance.stop(left, force=True))
                self._ends.add(end)
                end.add_done_callback(self._ends.discard)
        return response

    async def _keep(self, request: web.Request) -> web.Response:
        if refusal := self._refusal():
            return refusal
        return web.json_response({"result": self._instance.keep(Order.from_body(await request.json()))})

    async def _apply(self, request: web.Request) -> web.Response:
        if refusal := self._refusal():
            return refusal
        return web.json_response({"result": self._instance.apply(Order.from_body(await request.json()))})

    async def _scale(self, request: web.Request) -> web.Response:
        if refusal := self._refusal():
            return refusal
        body = await request.json()
        name, replicas = body["name"], body["replicas"]
        found = self._instance.known(name)
        if len(found) != 1:
            return web.json_response({"unknown": name, "candidates": found}, status=404)
        try:
            result = self._instance.scale(found[0], replicas)
        except UserError as error:
            return web.json_response({"reason": error.reason, "remedy": error.remedy}, status=409)
        return web.json_response({"name": found[0], "result": result})

    async def _rest(self, request: web.Request) -> web.Response:
        if refusal := self._refusal():
            return refusal
        name = (await request.json())["name"]
        found = self._instance.known(name)
        if len(found) != 1:
            return web.json_response({"unknown": name, "candidates": found}, status=404)
        try:
            result = self._instance.rest(found[0])
        except UserError as error:
            return web.json_response({"reason": error.reason, "remedy": error.remedy}, status=409)
        return web.json_response({"name": found[0], "result": result})

    async def _down(self, request: web.Request) -> web.StreamResponse:
        """Stop services and tell the progress as JSON lines; without names everything, the instance too."""
        body = await request.json()
        force = bool(body["force"])
        names: list[str] = []
        for name in body["names"]:
            found = self._instance.known(name)
            if len(found) != 1:
                return web.json_response({"unknown": name, "candidates": found}, status=404)
            names += found
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        if body["names"]:
            task = asyncio.ensure_future(self._instance.stop(names, force=force))
        else:
            self._stopping = True
            task = asyncio.ensure_future(self._instance.shutdown(force=force))
            task.add_done_callback(lambda _: self._end())
        while not task.done():
            await response.write(json.dumps({"running": self._instance.running}).encode() + b"\n")
            await asyncio.wait({task}, timeout=HEARTBEAT_SECONDS)
        task.result()
        await response.write(json.dumps({"stopped": names}).encode() + b"\n")
        await response.write_eof()
        return response

    def _refusal(self) -> web.Response | None:
        if self._stopping or self._instance.gateway.proxy.draining:
            return web.json_response({"stopping": True}, status=503)
        return None
