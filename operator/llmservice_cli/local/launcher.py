"""Launches models for clients of the gateway: each is prepared by a process of its own, as by `llmservice up`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmservice_api.labels import LAUNCHED
from llmservice_gateway.errors import gateway_draining
from llmservice_gateway.launching import errors
from llmservice_gateway.launching.launcher import Begun, Download, May
from llmservice_gateway.launching.standing import broken, failure_of
from llmservice_gateway.launching.wish import Json, Leave, Wish
from llmservice_runtime.wire.errors import ApiError, internal

if TYPE_CHECKING:
    from llmservice_cli.local.instance import Instance

COMMAND = (sys.executable, "-P", "-m", "llmservice_cli.local.launch")
MOST = 4
"""Launches at a time."""
MOST_FAILURES = 64
"""That are remembered for those who ask how far a launch is."""
LINE_BYTES = 4 << 20
"""Of what a process tells: an error may have in it what a request named."""
MORE = "Start the instance with `llmservice up --allow-launch {}` to let them."
STATUS = {"ModelNotFound": 404, "BadArgument": 400}
"""Of failures; of others 422."""

log = logging.getLogger(__name__)


class _Launch:
    """One process, and what it was asked. `named` is what it launches, as soon as that is known."""

    def __init__(self, asked: Json, may: May) -> None:
        self.asked = asked
        self.may = may
        self.named: asyncio.Future[Begun] = asyncio.get_running_loop().create_future()
        self.service = ""
        """That it prepares, of this `model`; empty = none yet, or somebody else prepares it."""
        self.model: Json = {}
        self.seen = False
        """The instance has had the service."""
        self.failed = False
        self.download: Download | None = None
        self.error: ApiError | None = None
        self.task: asyncio.Task[None]

    async def end(self) -> None:
        """Whatever it still does."""
        self.task.cancel()
        await asyncio.wait({self.task})


class LocalLauncher:
    """`Launcher` of an instance, of models from these sources."""

    def __init__(self, instance: Instance, sources: Sequence[str], command: Sequence[str] = COMMAND) -> None:
        self.leave = Leave(frozenset(sources), here=True, more=MORE)
        self._instance = instance
        self._command = command
        self._launches = set[_Launch]()
        self._by_service: dict[str, _Launch] = {}
        self._made: dict[str, str] = {}
        """By what the services that launches made are known, while they are there."""
        self._numbers = itertools.count(1)
        self._failures: dict[str, ApiError] = {}
        self._removals = set[asyncio.Task[None]]()

    async def close(self) -> None:
        """End what is being prepared."""
        ending = [*self._removals, *(launch.task for launch in self._launches)]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def launch(self, wish: Wish, may: May) -> Begun:
        """Begin; what is launched is known once its model's source has said what there is."""
        if len(self._launches) >= MOST:
            raise errors.too_many(MOST)
        asked = {
            "word": wish.word,
            "choice": wish.choice,
            "name": wish.name,
            "more": wish.more,
            "again": wish.again,
            "sources": sorted(self.leave.sources),
        }
        return await asyncio.shield(self._begun(asked, may).named)

    def download(self, service: str) -> Download | None:
        """As the process last told."""
        launch = self._by_service.get(service)
        return launch.download if launch else None

    def failure(self, service: str) -> ApiError | None:
        """Of a launch that is over, and of which nothing is left."""
        return self._failures.get(service)

    def launched(self, service: str) -> bool:
        """By its label."""
        found = self._instance.object(service) or {}
        return LAUNCHED in (found.get("metadata", {}).get("labels") or {})

    async def give_up(self, begun: Begun) -> None:
        """Whatever else has its name by now stays."""
        if self._made.get(begun.service) == begun.made:
            await self.remove(begun.service, files=False)

    async def remove(self, service: str, *, files: bool) -> None:
        """Its files go if no other service has them. It goes on when whoever asked leaves: a service that is half
        removed would be in everybody's way."""
        removal = asyncio.create_task(self._remove(service, files=files))
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)
        await asyncio.shield(removal)

    async def _remove(self, service: str, *, files: bool) -> None:
        found = self._instance.object(service)
        if launch := self._by_service.get(service):
            await launch.end()
        self._made.pop(service, None)
        await self._instance.stop([service])
        if files and found:
            await asyncio.wait({self._begun({"forget": found["spec"]["model"]}, lambda _: None).task})

    def _begun(self, asked: Json, may: May) -> _Launch:
        """It counts from now on."""
        launch = _Launch(asked, may)
        self._launches.add(launch)
        launch.task = asyncio.create_task(self._follow(launch))
        launch.task.add_done_callback(functools.partial(self._over, launch))
        return launch

    async def _follow(self, launch: _Launch) -> None:
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(*self._command, stdin=pipe, stdout=pipe, limit=LINE_BYTES)
        assert child.stdin is not None and child.stdout is not None
        try:
            await _say(child.stdin, json.dumps(launch.asked))
            async for line in child.stdout:
                await self._heard(launch, json.loads(line), child.stdin)
            if await child.wait() and launch.error is None:
                said = f"What launches models ended ({child.returncode}); up.log in the state folder says more."
                launch.error = ApiError(502, said, code="launch_lost")
        except ApiError as error:
            launch.error = error
        finally:
            child.stdin.close()
            with contextlib.suppress(ProcessLookupError):
                if child.returncode is None:
                    child.kill()
            await child.wait()
        if launch.failed:
            await self._came_to_nothing(launch)

    async def _heard(self, launch: _Launch, told: Json, answer: asyncio.StreamWriter) -> None:
        """What its process tells. ApiError when it is to end."""
        if "there" in told:
            launch.may(told["there"])
            launch.named.set_result(Begun(told["there"]))
        elif "service" in told:
            if await self._taken_up(launch, told["service"], told["model"], anew=told["anew"]):
                await _say(answer, "")
            answer.close()
        elif "total" in told:
            launch.download = Download(told["done"], told["total"])
        elif "error" in told:
            launch.error = _error(told["error"])
        elif "failed" in told:
            launch.failed = True
        here = bool(launch.service) and self._instance.has(launch.service)
        if launch.seen and not here:  # whoever removed it wants none of it
            raise errors.went_away(launch.service)
        launch.seen = here

    async def _taken_up(self, launch: _Launch, service: str, model: Json, *, anew: bool) -> bool:
        """Whether this launch is to make the service: not when another one makes the same. ApiError when the name is
        taken. `anew`: it takes the place of one that was launched before and failed. One that is being stopped is
        waited for."""
        launch.may(service)
        if other := self._by_service.get(service):
            if not (launch.asked["again"] and other.model == model):
                raise errors.there_already(service, "model_uid")
            launch.named.set_result(Begun(service))
            return False
        backend = self._instance.gateway.proxy.table.backends.get(service)
        replaced = backend is not None and anew and broken(backend) and self.launched(service)
        if self._instance.has(service) and not replaced:
            raise errors.there_already(service, "model_uid")
        launch.service, launch.model = service, model
        self._by_service[service] = launch
        self._failures.pop(service, None)
        if backend is not None:
            await self._instance.stop([service])
            if self._instance.has(service):  # somebody came in between
                raise errors.there_already(service, "model_uid")
        kept = {name: made for name, made in self._made.items() if self._instance.has(name)}
        self._made = {**kept, **{one: self._made[one] for one in self._by_service if one in self._made}}
        made = self._made[service] = str(next(self._numbers))
        launch.named.set_result(Begun(service, made))
        return True

    async def _came_to_nothing(self, launch: _Launch) -> None:
        """Nothing could be prepared: why is kept for those who ask, and the service goes."""
        backend = self._instance.gateway.proxy.table.backends.get(launch.service)
        if backend is not None and broken(backend):
            launch.error = failure_of(backend)
            self._remember(launch.service, launch.error)
            self._made.pop(launch.service, None)
            await self._instance.stop([launch.service])

    def _over(self, launch: _Launch, task: asyncio.Task[None]) -> None:
        self._launches.discard(launch)
        if self._by_service.get(launch.service) is launch:
            del self._by_service[launch.service]
        if not task.cancelled() and (bug := task.exception()):
            log.error("a launch failed", exc_info=bug)
            launch.error = internal("The launch failed; up.log in the state folder says why.")
        if launch.error is None and not launch.named.done():
            launch.error = gateway_draining()
        if launch.error is None:
            return
        log.info("%s: %s", launch.service or "a launch", launch.error.message)
        if not launch.named.done():
            launch.named.set_exception(launch.error)
            launch.named.exception()  # whoever asked may be gone
        elif launch.service:
            self._remember(launch.service, launch.error)

    def _remember(self, service: str, error: ApiError) -> None:
        self._failures[service] = error
        while len(self._failures) > MOST_FAILURES:
            del self._failures[next(iter(self._failures))]


async def _say(writer: asyncio.StreamWriter, line: str) -> None:
    """To a process that may have ended."""
    with contextlib.suppress(ConnectionError):
        writer.write(line.encode() + b"\n")
        await writer.drain()


def _error(told: dict[str, str]) -> ApiError:
    message = f"{told['reason']} {told['remedy']}".strip()
    if taken := told.get("taken"):
        return errors.there_already(taken, "model_uid")
    return ApiError(STATUS.get(told["failure"], 422), message, code=told["failure"])
