"""Handing manifests to a running instance: prepare, apply, wait until each serves or has failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from llmservice_api.conditions import Reason
from llmservice_api.manifest import Manifest
from llmservice_cli.local.client import Control
from llmservice_cli.local.offer import Offer
from llmservice_cli.local.order import Order
from llmservice_cli.local.prepare import Joined, Preparation
from llmservice_cli.local.service import ADAPTED
from llmservice_cli.local.tell import condition, lines
from llmservice_cli.places import Places
from llmservice_cli.plans import staying_first
from llmservice_runtime.sources.progress import Progress

POLL_SECONDS = 10.0
"""Longest time between two snapshots; a change is told at once."""
PREPARING_POLL_SECONDS = 0.25
"""The same while something is being downloaded: its end is no change of a service."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Full names of the services of one `up`. `waiting` ones were still starting when the time was over, `stopped` ones
    have no replicas because they ask for none."""

    ready: tuple[str, ...]
    failed: tuple[str, ...]
    waiting: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()

    @property
    def nothing(self) -> bool:
        """Whether every service failed."""
        return not (self.ready or self.waiting or self.stopped)


class Submission:
    """One `up`. `tell` = also say what happens to the services (an instance in this process says it itself); `brief` =
    of a plan one line."""

    def __init__(
        self,
        control: Control,
        places: Places,
        say: Callable[[str], None],
        *,
        tell: bool,
        offer: Offer | None = None,
        brief: bool = False,
    ) -> None:
        self._control = control
        self._places = places
        self._say = say
        self._tell = tell
        self._offer = offer
        self._brief = brief

    def run(
        self,
        manifests: Sequence[Manifest],
        progress: Callable[[], Progress],
        timeout: float | None,
        *,
        anew: bool = False,
    ) -> Outcome:
        """Prepare and apply each, so that one that is slow or broken stops no other; then wait.

        `timeout` in seconds bounds the waiting, not the downloads. `anew`: also what runs already as it is asked for,
        as its files are others now. Raises NoInstanceError when the instance goes away.
        """
        joined = Joined.of(self._control.snapshot())
        preparation = Preparation(self._places, self._say, progress, self._offer, joined, brief=self._brief)
        wanted = {
            manifest.service.full_name: Order(manifest.service, str(manifest.base)).to_body() for manifest in manifests
        }
        with self._control.announced(list(wanted.values())):
            coming = [
                preparation.prepare(manifest, self._apply)
                for manifest in staying_first(manifests)
                if anew or not self._told(name := manifest.service.full_name, self._control.keep(wanted[name]))
            ]
            return self._wait([manifest.service.full_name for manifest in manifests], coming, timeout)

    def _apply(self, order: Order) -> None:
        self._told(order.service.full_name, self._control.apply(order.to_body()))

    def _told(self, name: str, result: str) -> str:
        if result in ("unchanged", "scaled", ADAPTED, "replacing"):
            self._say(f"{name}: {result}")
        return result

    def _wait(self, names: Sequence[str], coming: Sequence[Future[None]], timeout: float | None) -> Outcome:
        end = before = None
        prepared = False
        while True:
            done = [future for future in coming if future.done()]
            for future in done:
                future.result()
            known, prepared = prepared, len(done) == len(coming)
            if prepared and end is None and timeout is not None:
                end = time.monotonic() + timeout
            poll = POLL_SECONDS if known else PREPARING_POLL_SECONDS  # the last one to be prepared is news already
            left = poll if end is None else max(0.0, min(poll, end - time.monotonic()))
            now = self._control.snapshot(before["version"] if before else -1, left)
            mine = {
                name: entry
                for entry in now["services"]
                if (name := f"{entry['object']['metadata']['namespace']}/{entry['object']['metadata']['name']}")
                in names
            }
            now["services"] = list(mine.values())
            if self._tell:
                for line in lines(before, now):
                    self._say(line)
            before = now
            if prepared and (left == 0.0 or all(entry["settled"] for entry in mine.values())):
                ready = tuple(name for name in mine if condition(mine[name], "Ready")["status"] == "True")
                waiting = tuple(name for name in mine if name not in ready and not mine[name]["settled"])
                stopped = tuple(name for name in mine if condition(mine[name], "Ready")["reason"] == Reason.STOPPED)
                failed = tuple(name for name in names if name not in ready + waiting + stopped)
                return Outcome(ready, failed, waiting, stopped)
