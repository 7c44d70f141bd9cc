"""Launches models for clients of the gateway: each is prepared by a process of its own, as by `llmservice up`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmservice_api.labels import LAUNCHED
from llmservice_gateway.errors import gateway_draining
from llmservice_gateway.launching import errors
from llmservice_gateway.launching.launcher import Download
from llmservice_gateway.launching.wish import Leave, Wish
from llmservice_runtime.wire.errors import ApiError

if TYPE_CHECKING:
    from llmservice_cli.local.instance import Instance

COMMAND = (sys.executable, "-P", "-m", "llmservice_cli.local.launch")
MOST = 4
"""Launches at a time."""
MOST_FAILURES = 64
"""That are remembered for those who ask how far a launch is."""
MORE = "Start the instance with `llmservice up --allow-launch {}` to let them."
STATUS = {"ModelNotFound": 404, "BadArgument": 400}
"""Of failures; of others 422."""

log = logging.getLogger(__name__)


class _Launch:
    """One process. `named` is the service that it is for, as soon as that is known."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self.child = child
        self.named: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.download: Download | None = None
        self.error: ApiError | None = None
        self.given_up = False
        self.task: asyncio.Task[None]

    async def end(self) -> None:
        """Whatever it still does."""
        self.given_up = True
        with contextlib.suppress(ProcessLookupError):
            if self.child.returncode is None:
                self.child.kill()
        await asyncio.wait({self.task})


class LocalLauncher:
    """`Launcher` of an instance, of models from these sources."""

    def __init__(self, instance: Instance, sources: Sequence[str], command: Sequence[str] = COMMAND) -> None:
        self.leave = Leave(frozenset(sources), here=True, more=MORE)
        self._instance = instance
        self._command = command
        self._launches = set[_Launch]()
        self._by_service: dict[str, _Launch] = {}
        self._failures: dict[str, ApiError] = {}

    async def close(self) -> None:
        """End what is being prepared."""
        for launch in tuple(self._launches):
            await launch.end()

    async def launch(self, wish: Wish) -> str:
        """Begin; the service, which is known once its model's source has said what there is."""
        if len(self._launches) >= MOST:
            raise errors.too_many(MOST)
        launch = await self._begun(
            {
                "word": wish.word,
                "choice": wish.choice,
                "name": wish.name,
                "more": wish.more,
                "again": wish.again,
            }
        )
        return await asyncio.shield(launch.named)

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

    async def remove(self, service: str, *, files: bool) -> None:
        """Its files go if no other service has them."""
        found = self._instance.object(service)
        if launch := self._by_service.get(service):
            await launch.end()
        await self._instance.stop([service])
        if files and found:
            forgetting = await self._begun({"forget": found["spec"]["model"]})
            forgetting.named.set_result("")
            await asyncio.wait({forgetting.task})

    async def _begun(self, asked: dict[str, Any]) -> _Launch:
        pipe = asyncio.subprocess.PIPE
        launch = _Launch(await asyncio.create_subprocess_exec(*self._command, stdin=pipe, stdout=pipe))
        launch.task = asyncio.create_task(self._follow(launch, json.dumps(asked).encode()))
        self._launches.add(launch)
        return launch

    async def _follow(self, launch: _Launch, asked: bytes) -> None:
        service = ""
        assert launch.child.stdin is not None and launch.child.stdout is not None
        try:
            with contextlib.suppress(ConnectionError):
                launch.child.stdin.write(asked)
                await launch.child.stdin.drain()
            launch.child.stdin.close()
            async for line in launch.child.stdout:
                told = json.loads(line)
                if "service" in told:
                    service = told["service"]
                    self._failures.pop(service, None)
                    self._by_service[service] = launch
                    launch.named.set_result(service)
                elif "total" in told:
                    launch.download = Download(told["done"], told["total"])
                elif "error" in told:
                    launch.error = _error(told["error"])
            code = await launch.child.wait()
            if code and launch.error is None and not launch.given_up:
                said = f"What launches models ended ({code}); up.log in the state folder says more."
                launch.error = ApiError(502, said, code="launch_lost")
        finally:
            self._over(launch, service)

    def _over(self, launch: _Launch, service: str) -> None:
        self._launches.discard(launch)
        if self._by_service.get(service) is launch:
            del self._by_service[service]
        if not launch.named.done():
            launch.error = launch.error or gateway_draining()
        if launch.error is None:
            return
        log.info("%s: %s", service or "a launch", launch.error.message)
        if not launch.named.done():
            launch.named.set_exception(launch.error)
            launch.named.exception()  # whoever asked may be gone
        elif service:
            self._failures[service] = launch.error
            while len(self._failures) > MOST_FAILURES:
                del self._failures[next(iter(self._failures))]


def _error(told: dict[str, str]) -> ApiError:
    message = f"{told['reason']} {told['remedy']}".strip()
    if taken := told.get("taken"):
        return errors.there_already(taken, "model_uid")
    return ApiError(STATUS.get(told["failure"], 422), message, code=told["failure"])
