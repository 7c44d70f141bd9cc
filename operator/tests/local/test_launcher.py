"""What becomes of launches that meet, fail or are ended, on one machine: over processes that tell what a test says."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmservice_api.labels import LAUNCHED
from llmservice_cli.local.launcher import MOST, LocalLauncher
from llmservice_gateway.launching.launcher import Begun
from llmservice_gateway.launching.wish import Wish
from llmservice_gateway.routing import Backend, Table, Unready
from llmservice_runtime.wire.errors import ApiError

CHILD = """
import json, os, sys, time
asked = json.loads(sys.stdin.readline())
if "forget" in asked:
    asked["word"] = json.dumps([asked["forget"]["uri"]])
for step in json.loads(asked["word"]):
    if step == "may":
        if not sys.stdin.readline():
            sys.exit()
    elif isinstance(step, str):
        open(step + ".reached", "w").close()
        while not os.path.exists(step):
            time.sleep(0.01)
    else:
        print(json.dumps(step), flush=True)
"""
MODEL = {"uri": "hf://acme/x"}


class Machine:
    """An instance that has these services, as far as a launcher looks. `going` are being stopped by somebody else."""

    def __init__(self) -> None:
        self.gateway: Any = SimpleNamespace(proxy=SimpleNamespace(table=Table()))
        self.stopped = list[str]()
        self.going = set[str]()
        self.stopping, self.drained = asyncio.Event(), asyncio.Event()
        self.drained.set()

    def put(self, name: str, unready: Unready | None = None) -> None:
        backends = {**self.gateway.proxy.table.backends, f"default/{name}": Backend("default", name)}
        if unready:
            backends[f"default/{name}"] = Backend("default", name, unready=unready)
        self.gateway.proxy.table = Table(backends)

    def object(self, service: str) -> Any:
        if service not in self.gateway.proxy.table.backends:
            return None
        return {"metadata": {"labels": {LAUNCHED: "ollama"}}, "spec": {"model": {"uri": "hf://acme/x"}}}

    def has(self, service: str) -> bool:
        return service in self.gateway.proxy.table.backends and service not in self.going

    async def stop(self, names: list[str]) -> None:
        self.stopping.set()
        await self.drained.wait()
        left = {n: b for n, b in self.gateway.proxy.table.backends.items() if n not in names}
        self.gateway.proxy.table = Table(left)
        self.stopped += names
        self.going -= set(names)


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
async def launcher(machine: Machine) -> AsyncIterator[LocalLauncher]:
    made = LocalLauncher(machine, ["hf"], (sys.executable, "-c", CHILD))  # type: ignore[arg-type]
    async with asyncio.timeout(60):
        yield made
        await made.close()


def wish(*steps: Any, again: bool = False) -> Wish:
    return Wish(json.dumps(steps), "ollama", again=again)


def making(name: str = "default/x", model: Any = MODEL, *, anew: bool = False) -> tuple[Any, ...]:
    return {"service": name, "model": model, "anew": anew}, "may"


async def begun(launcher: LocalLauncher, *steps: Any, again: bool = False) -> Begun:
    return await launcher.launch(wish(*steps, again=again), lambda _: None)


async def until(found: Any) -> None:
    async with asyncio.timeout(30):
        while not found():  # noqa: ASYNC110 - told by a file
            await asyncio.sleep(0.01)


async def test_of_two_launches_of_a_name_one_makes_it(launcher: LocalLauncher, tmp_path: Path) -> None:
    first = await begun(launcher, *making(), {"done": 1, "total": 9}, str(tmp_path / "go"))
    with pytest.raises(ApiError, match="There is a service default/x already") as taken:
        await begun(launcher, *making())
    assert taken.value.status == 409 and first.made
    await until(lambda: launcher.download("default/x"))
    assert (await begun(launcher, *making(), again=True)) == Begun("default/x"), "it joins the first"
    with pytest.raises(ApiError, match="There is a service"):
        await begun(launcher, *making(model={"uri": "hf://rival/x"}), again=True)
    await until(lambda: len(launcher._launches) == 1)
    assert launcher.download("default/x"), "whoever joined is not followed in its place"


async def test_no_more_are_begun_at_a_time_than_may_be(launcher: LocalLauncher, tmp_path: Path) -> None:
    steps = [(str(tmp_path / f"go{n}"), {"there": f"default/{n}"}) for n in range(2 * MOST)]
    asked = [asyncio.create_task(begun(launcher, *each)) for each in steps]
    done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    await until(lambda: sum(task.done() for task in asked) == MOST)
    assert {getattr(task.exception(), "status", 0) for task in done} == {429}
    for n in range(2 * MOST):
        (tmp_path / f"go{n}").touch()
    told = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(one, Begun) for one in told) == MOST


async def test_a_removal_goes_on_when_whoever_asked_leaves(
    launcher: LocalLauncher, machine: Machine, tmp_path: Path
) -> None:
    machine.put("x")
    machine.drained.clear()
    asked = asyncio.create_task(launcher.remove("default/x", files=False))
    await machine.stopping.wait()
    asked.cancel()
    await asyncio.wait({asked})
    assert asked.cancelled() and not machine.stopped
    machine.drained.set()
    await until(lambda: bool(machine.stopped))
    assert machine.stopped == ["default/x"]


async def test_what_fails_after_its_client_left_goes_and_why_is_kept(launcher: LocalLauncher, machine: Machine) -> None:
    why = Unready("DoesNotFit", "It lacks 3 GiB.", final=True)
    machine.put("x", why)
    made = await begun(launcher, *making(anew=True), {"failed": "default/x"}, again=True)
    assert made.made and machine.stopped == ["default/x"], "what failed before makes room"
    machine.put("x", why)
    await until(lambda: launcher.failure("default/x"))
    await until(lambda: not machine.gateway.proxy.table.backends)
    error = launcher.failure("default/x")
    assert error is not None and error.status == 422 and "It lacks 3 GiB." in error.message


async def test_only_what_failed_makes_room(launcher: LocalLauncher, machine: Machine) -> None:
    machine.put("x")
    for anew in (False, True):
        with pytest.raises(ApiError, match="There is a service"):
            await begun(launcher, *making(anew=anew), again=True)
    assert machine.stopped == []


@pytest.mark.parametrize("again", [True, False])
async def test_one_that_is_being_stopped_is_waited_for_and_then_made_anew(
    launcher: LocalLauncher, machine: Machine, again: bool
) -> None:
    machine.put("x")
    machine.going.add("default/x")
    machine.drained.clear()
    asked = asyncio.create_task(begun(launcher, *making(), again=again))
    await machine.stopping.wait()
    assert not asked.done()
    machine.drained.set()
    assert (await asked).made and machine.stopped == ["default/x"]


async def test_a_launch_whose_service_somebody_removed_ends(
    launcher: LocalLauncher, machine: Machine, tmp_path: Path
) -> None:
    bytes_ = {"done": 1, "total": 9}
    await begun(launcher, *making(), str(tmp_path / "here"), bytes_, str(tmp_path / "go"), bytes_, str(tmp_path / "no"))
    machine.put("x")
    (tmp_path / "here").touch()
    await until((tmp_path / "go.reached").exists)
    await until(lambda: launcher.download("default/x"))
    await machine.stop(["default/x"])
    (tmp_path / "go").touch()
    await until(lambda: not launcher._launches)
    error = launcher.failure("default/x")
    assert error is not None and "was removed while it was launched" in error.message


async def test_only_what_a_launch_made_is_given_up(launcher: LocalLauncher, machine: Machine, tmp_path: Path) -> None:
    first = await begun(launcher, *making(), str(tmp_path / "go"))
    machine.put("x")
    await launcher.remove("default/x", files=False)
    assert not launcher._launches
    second = await begun(launcher, *making(), str(tmp_path / "go"))
    machine.put("x")
    await launcher.give_up(first)
    assert launcher._launches and machine.has("default/x")
    await launcher.give_up(second)
    assert not launcher._launches and not machine.has("default/x")


async def test_a_name_that_may_not_be_launched_is_not(launcher: LocalLauncher) -> None:
    def may(service: str) -> None:
        raise ApiError(403, f"Not {service}.", code="no")

    with pytest.raises(ApiError, match="Not default/x"):
        await launcher.launch(wish(*making(), {"service": "never"}), may)


async def test_what_breaks_is_told(launcher: LocalLauncher) -> None:
    with pytest.raises(ApiError) as lost:
        await begun(launcher, {"error": {"reason": "R" * 200_000, "remedy": "", "failure": "ModelNotFound"}})
    assert lost.value.status == 404
    with pytest.raises(ApiError) as lost:
        await begun(launcher, {"strange": 1}, *making(), {"done": 1})
        await begun(launcher, {"service": "x"})
    assert lost.value.status == 500
