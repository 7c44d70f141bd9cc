"""From the file to the engine: what is fetched, told, retried, refused; on a script that fetches, without an engine."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from llmservice_runtime.contract.adapter_note import noted
from llmservice_runtime.contract.adapters import Adapter, Fetched, adapters_json
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.failure import FailureClass, FailureRecord
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.supervisor import adapters as module
from llmservice_runtime.supervisor.adapters import Adapters
from llmservice_runtime.supervisor.reports import AdaptersReport

SCRIPT = """
import json, pathlib, sys
asked = dict(word.removeprefix("--").split("=", 1) for word in sys.argv[1:])
reply = pathlib.Path(__file__).with_name(asked["name"] + ".json")
body = json.loads(reply.read_text())
print(json.dumps(body["says"]))
sys.exit(body["code"])
"""


class World:
    """A folder with the file and the scripts, an engine that keeps what it is told, a clock."""

    def __init__(self, folder: Path, count: int = 4, rank: int = 16) -> None:
        self.folder, self.file = folder, folder / "adapters.json"
        (script := folder / "fetch.py").write_text(SCRIPT)
        self.told: list[dict[str, Any]] = []
        self.said: list[str] = []
        self.now = 0.0
        self.running: asyncio.Task[None] | None = None
        self.notes: list[Any] = []
        settings = RuntimeSettings(
            EngineType.LLAMA_CPP, "/model.gguf", "demo", adapters_file=str(self.file), adapter_count=count,
            adapter_rank=rank, adapters_guard=str(folder / "guard"),
        )  # fmt: skip
        self.settings, self.script = settings, script
        self.adapters = self.supervised()

    def supervised(self) -> Adapters:
        return Adapters(
            self.settings,
            [sys.executable, str(self.script)],
            lambda line: self.told.append(json.loads(line)),
            self.said.append,
            lambda: self.now,
            "this",
        )

    def fetches(self, name: str, path: str = "", rank: int = 8, failure: FailureClass | None = None) -> None:
        says: Any = {"path": path or f"/cache/{name}", "revision": "c0ffee", "facts": {"rank": rank}}
        if failure is not None:
            says = json.loads(FailureRecord(failure, "It is not there.", "Look again.", "Fetching").to_json())
        (self.folder / f"{name}.json").write_text(json.dumps({"says": says, "code": failure is not None}))

    def want(self, *adapters: str | Adapter, tried: dict[str, str] | None = None) -> None:
        found = [Adapter(a, f"hf://acme/{a}") if isinstance(a, str) else a for a in adapters]
        (draft := self.folder / "draft").write_text(adapters_json(found, tried))
        draft.replace(self.file)

    def begin(self, *adapters: str | Adapter) -> None:
        """The supervisor starts, and its engine; the file says these by then."""
        if adapters:
            self.want(*adapters)
        self.running = asyncio.get_running_loop().create_task(self.adapters.run())
        self.adapters.engine_started()

    def states(self) -> dict[str, tuple[str, str]]:
        return {one.name: (one.state.value, one.reason) for one in self.adapters.statuses()}

    def was_told(self, turn: int) -> bool:
        return any(order["turn"] == turn for order in self.told)

    def loaded(self, turn: int, *names: str, **failed: tuple[FailureClass, str]) -> None:
        self.adapters.reported(AdaptersReport(turn, frozenset(names), failed))

    def loading(self, name: str) -> None:
        """The engine is about to load it, and does not come to an end with that."""
        self.notes.append(noted(str(self.folder / "guard"), Fetched(name, f"/cache/{name}")))
        self.notes[-1].__enter__()

    async def another_supervisor(self) -> None:
        """The one before was killed with its engine."""
        assert self.running is not None
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)
        self.adapters = self.supervised()
        self.begin()

    async def until(self, what: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not what():  # noqa: ASYNC110 - what is looked at has no events
                await asyncio.sleep(0.01)


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)
    made = World(tmp_path)
    yield made
    if made.running is not None:
        made.running.cancel()
        await asyncio.gather(made.running, return_exceptions=True)


async def test_an_engine_is_told_when_all_are_here_and_again_when_it_starts_anew(world: World) -> None:
    world.fetches("sql")
    world.fetches("law", failure=FailureClass.MODEL_NOT_FOUND)
    world.begin("sql", "law")
    await world.until(lambda: bool(world.told))
    assert world.told == [{"turn": 1, "adapters": [{"name": "sql", "path": "/cache/sql"}]}]
    world.loaded(1, "sql")
    assert world.states() == {"sql": ("Loaded", ""), "law": ("Failed", "ModelNotFound")}
    assert world.adapters.statuses()[0].revision == "c0ffee"
    world.adapters.engine_ended()
    world.adapters.engine_started()
    assert world.told[-1] == {"turn": 2, "adapters": [{"name": "sql", "path": "/cache/sql"}]}
    assert world.states()["sql"] == ("Loading", "")
    world.loaded(2, "sql")
    assert world.states()["sql"] == ("Loaded", "")


async def test_one_that_comes_and_one_that_goes_are_one_order_each(world: World) -> None:
    for name in ("a", "b"):
        world.fetches(name)
    world.begin("a")
    await world.until(lambda: bool(world.told))
    world.want("a", "b")
    await world.until(lambda: world.states().get("b", ("", ""))[0] == "Loading")
    assert len(world.told) == 1, "the order before is not answered yet"
    world.loaded(1, "a")
    assert [one["name"] for one in world.told[-1]["adapters"]] == ["a", "b"]
    world.loaded(2, "a", "b")
    world.want("b")
    await world.until(lambda: len(world.told) == 3)
    assert world.told[-1]["adapters"] == [{"name": "b", "path": "/cache/b"}]
    assert world.states() == {"b": ("Loaded", "")}


async def test_no_adapters_are_an_order_too(world: World) -> None:
    """An engine waits for one; also when there is no file, as when a mount is late."""
    world.begin()
    await world.until(lambda: bool(world.told))
    assert world.told == [{"turn": 1, "adapters": []}]
    assert any("stay as they are" in line for line in world.said)


async def test_what_hangs_keeps_an_engine_waiting_no_longer_than_it_should(world: World) -> None:
    (world.folder / "fetch.py").write_text("import time; time.sleep(600)")
    world.begin("slow")
    await world.until(lambda: world.states().get("slow", ("", ""))[0] == "Fetching")
    assert not world.told
    world.now = module.FIRST_SECONDS + 1
    await world.until(lambda: bool(world.told))
    assert world.told == [{"turn": 1, "adapters": []}]


async def test_what_may_pass_is_tried_again_and_what_will_not_is_not(world: World) -> None:
    world.fetches("away", failure=FailureClass.HUB_UNREACHABLE)
    world.fetches("bad", failure=FailureClass.UNSUPPORTED_FORMAT)
    world.begin("away", "bad")
    await world.until(lambda: all(state == "Failed" for state, _ in world.states().values()) and bool(world.told))
    world.loaded(1)
    world.fetches("away")
    world.fetches("bad")
    world.now = 11.0
    await world.until(lambda: world.states()["away"][0] == "Loading")
    assert world.states()["bad"] == ("Failed", "UnsupportedFormat")
    world.want("bad", "away")  # somebody has touched it: look again
    await world.until(lambda: world.states()["bad"][0] == "Loading")


@pytest.mark.parametrize("crash", ["print('Traceback: killed'); raise SystemExit(1)", "print('no JSON')", "record", ""])
async def test_a_fetch_that_breaks_is_no_death_of_an_engine(world: World, crash: str) -> None:
    """Others would not be told of it as long as it breaks here."""
    command = world.adapters._command
    if crash == "record":
        world.fetches("sql", failure=FailureClass.CRASHED)
    elif not crash:  # as where the container may start no more processes
        world.adapters._command = (str(world.folder / "nothing"),)
    else:
        (world.folder / "fetch.py").write_text(crash)
    world.begin("sql")
    await world.until(lambda: world.states().get("sql", ("", ""))[0] == "Failed")
    assert world.states()["sql"] == ("Failed", "HubUnreachable")
    world.script.write_text(SCRIPT)
    world.adapters._command = command
    world.fetches("sql")
    world.now = 11.0
    await world.until(lambda: world.states()["sql"][0] == "Loading")


async def test_what_the_plan_has_no_room_for_is_not_loaded(world: World) -> None:
    names = [f"a{number}" for number in range(5)]
    for name in names:
        world.fetches(name, rank=16 if name != "a1" else 17)
    world.begin(*names)
    await world.until(lambda: bool(world.told))
    assert [one["name"] for one in world.told[0]["adapters"]] == ["a0", "a2", "a3"]
    assert world.states()["a4"] == world.states()["a1"] == ("Failed", "DoesNotFit")


async def test_a_revision_that_is_broken_leaves_the_one_before(world: World) -> None:
    world.fetches("sql")
    world.begin("sql")
    await world.until(lambda: bool(world.told))
    world.loaded(1, "sql")
    world.fetches("sql", failure=FailureClass.UNSUPPORTED_FORMAT)
    world.want(Adapter("sql", "hf://acme/sql", "v2"))
    await world.until(lambda: world.states()["sql"][1] == "UnsupportedFormat")
    assert world.states()["sql"][0] == "Loaded" and len(world.told) == 1
    world.fetches("sql", path="/cache/sql-2")
    world.want(Adapter("sql", "hf://acme/sql", "v3"))
    await world.until(lambda: len(world.told) == 2)
    assert world.told[-1]["adapters"] == [{"name": "sql", "path": "/cache/sql-2"}]
    assert world.states()["sql"][0] == "Loaded", "the one before still serves"


async def test_what_an_engine_can_not_load_is_said_in_its_words(world: World) -> None:
    world.fetches("sql")
    world.begin("sql")
    await world.until(lambda: bool(world.told))
    world.loaded(1, sql=(FailureClass.UNSUPPORTED_FORMAT, "Of another model."))
    status = world.adapters.statuses()[0]
    assert (status.state.value, status.reason, status.message) == ("Failed", "UnsupportedFormat", "Of another model.")


async def test_one_that_is_loaded_keeps_its_place_whatever_its_name(world: World) -> None:
    """Another plan may have room for more, and the same file: until its replicas are there nobody else has these."""
    for name in "abcde":
        world.fetches(name)
    world.begin("b", "c", "d", "e")
    await world.until(lambda: bool(world.told))
    world.loaded(1, *"bcde")
    world.want("a", "b", "c", "d", "e")
    await world.until(lambda: "a" in world.states())
    assert world.states() == {"a": ("Failed", "DoesNotFit"), **dict.fromkeys("bcde", ("Loaded", ""))}
    assert len(world.told) == 1
    assert [one.name for one in world.adapters.statuses()] == list("abcde")


async def test_a_file_that_is_broken_is_told_of_once_and_changes_nothing(world: World) -> None:
    world.fetches("sql")
    world.begin("sql")
    await world.until(lambda: bool(world.told))
    world.loaded(1, "sql")
    world.file.write_text("{")
    await world.until(lambda: any("not JSON" in line for line in world.said))
    await asyncio.sleep(10 * module.POLL_SECONDS)
    assert sum("not JSON" in line for line in world.said) == 1
    assert world.states() == {"sql": ("Loaded", "")} and len(world.told) == 1


async def test_one_that_hangs_holds_up_no_other(world: World) -> None:
    (world.folder / "fetch.py").write_text("import sys, time\nif '--name=slow' in sys.argv: time.sleep(600)\n" + SCRIPT)
    world.fetches("sql")
    world.begin("slow", "sql")
    await world.until(lambda: world.states().get("sql", ("", ""))[0] == "Loading")
    assert world.states()["slow"] == ("Fetching", "")


async def test_what_is_the_same_after_all_has_nothing_wrong_any_more(world: World) -> None:
    world.fetches("sql")
    world.begin("sql")
    await world.until(lambda: bool(world.told))
    world.loaded(1, "sql")
    world.fetches("sql", failure=FailureClass.HUB_UNREACHABLE)
    world.want(Adapter("sql", "hf://acme/sql", "v1"))
    await world.until(lambda: world.states()["sql"] == ("Loaded", "HubUnreachable"))
    world.fetches("sql")
    world.now = 11.0
    await world.until(lambda: world.states()["sql"] == ("Loaded", ""))
    assert len(world.told) == 1


async def test_what_an_engine_fails_with_again_is_tried_ever_less_often(world: World) -> None:
    """Each try holds up what the engine computes."""
    world.fetches("sql")
    world.begin("sql")
    for turn, after in ((1, 10.0), (3, 20.0), (5, 40.0)):
        await world.until(partial(world.was_told, turn))
        world.loaded(turn, sql=(FailureClass.CRASHED, "It fell over."))
        world.loaded(turn + 1)  # told that it has none, meanwhile
        world.now += after - 1.0
        await asyncio.sleep(5 * module.POLL_SECONDS)
        assert world.told[-1]["turn"] == turn + 1, after
        world.now += 1.0


async def test_one_that_the_engine_died_of_is_left_out_and_named(world: World) -> None:
    for name in ("sql", "law"):
        world.fetches(name)
    world.begin("sql", "law")
    await world.until(lambda: bool(world.told))
    world.loading("law")
    assert world.adapters.engine_ended("It was killed by SIGSEGV.") == "law"
    assert world.states() == {"sql": ("Loading", ""), "law": ("Failed", "Crashed")}
    assert "SIGSEGV" in world.adapters.statuses()[1].message
    world.adapters.engine_started()
    assert world.told[-1]["adapters"] == [{"name": "sql", "path": "/cache/sql"}]
    world.now = 11.0
    await world.until(lambda: sum("law: Crashed" in line for line in world.said) == 2)
    assert len(world.told) == 2, "looked at again, and still the same"


async def test_what_an_engine_died_of_outlives_its_supervisor(world: World) -> None:
    """A container without memory is killed as a whole; the next one reads what is left. Others may end it too, so the
    second time counts."""
    world.fetches("law")
    world.begin("law")
    for died in (0, 1, 2, 2):
        await world.until(lambda: bool(world.told))
        if died < 2:
            assert world.told[-1]["adapters"] == [{"name": "law", "path": "/cache/law"}]
            world.loading("law")
        else:
            assert world.told[-1]["adapters"] == [] and world.states() == {"law": ("Failed", "Crashed")}
            assert "twice in a row. The adapter is left out" in world.adapters.statuses()[0].message
        world.told.clear()
        await world.another_supervisor()


@pytest.mark.parametrize("failed", [False, True])
async def test_one_that_a_later_engine_survives_is_not_to_blame(world: World, failed: bool) -> None:
    """A node that is drained ends a replica whatever it does."""
    world.fetches("law")
    world.begin("law")
    for turn in (1, 1, 1):
        await world.until(lambda: bool(world.told))
        assert world.told[-1]["adapters"] == [{"name": "law", "path": "/cache/law"}]
        world.loading("law")
        world.told.clear()
        await world.another_supervisor()
        await world.until(lambda: bool(world.told))
        if failed:
            world.loaded(turn, law=(FailureClass.UNSUPPORTED_FORMAT, "It is none."))
        else:
            world.loaded(turn, "law")
        world.told.clear()
        await world.another_supervisor()


async def test_one_that_another_replica_tries_is_fetched_and_waits_for_its_turn(world: World) -> None:
    world.fetches("sql")
    world.fetches("law")
    world.want("sql", "law", tried={"sql": "this", "law": "other"})
    world.begin()
    await world.until(lambda: world.states() == {"sql": ("Loading", ""), "law": ("Pending", "")})
    await world.until(lambda: world.was_told(1))
    world.loaded(1, "sql")
    assert world.told[-1]["adapters"] == [{"name": "sql", "path": "/cache/sql"}]
    world.adapters.engine_ended()
    world.adapters.engine_started()
    await world.until(lambda: world.was_told(2))
    assert len(world.told[-1]["adapters"]) == 1 and world.states()["law"] == ("Pending", "")
    world.loaded(2, "sql")
    world.want("sql", "law")
    await world.until(lambda: world.was_told(3))
    assert len(world.told[-1]["adapters"]) == 2
    world.loaded(3, "sql", "law")
    assert world.states() == {"sql": ("Loaded", ""), "law": ("Loaded", "")}


async def test_the_revision_before_goes_on_while_another_replica_tries_the_next(world: World) -> None:
    world.fetches("sql")
    world.begin("sql")
    await world.until(lambda: world.was_told(1))
    world.loaded(1, "sql")
    world.fetches("sql", path="/cache/sql-2")
    world.fetches("law")
    world.want(Adapter("sql", "hf://acme/sql", "v2"), "law", tried={"sql": "other"})
    await world.until(lambda: world.was_told(2))
    assert world.told[-1]["adapters"] == [{"name": n, "path": f"/cache/{n}"} for n in ("sql", "law")]
    world.loaded(2, "sql", "law")
    world.want(Adapter("sql", "hf://acme/sql", "v2"), "law")
    await world.until(lambda: world.was_told(3))
    assert world.told[-1]["adapters"][0]["path"] == "/cache/sql-2"


async def test_one_that_was_left_out_is_tried_when_it_is_another_or_comes_again(world: World) -> None:
    world.fetches("law")
    world.begin("law")
    await world.until(lambda: bool(world.told))
    world.loading("law")
    world.adapters.engine_ended("It died.")
    world.adapters.engine_started()
    world.loaded(2)
    world.fetches("law", path="/cache/law-2")
    world.want(Adapter("law", "hf://acme/law", "v2"))
    await world.until(lambda: world.told[-1]["adapters"] == [{"name": "law", "path": "/cache/law-2"}])
    world.loaded(3, "law")
    world.want()
    await world.until(lambda: not world.states())
    world.loaded(4)
    world.fetches("law")
    world.want("law")
    await world.until(lambda: world.told[-1]["adapters"] == [{"name": "law", "path": "/cache/law"}])


async def test_an_engine_that_was_to_end_died_of_nothing(world: World) -> None:
    world.fetches("law")
    world.begin("law")
    await world.until(lambda: bool(world.told))
    world.loading("law")
    assert world.adapters.engine_ended() == ""
    await world.another_supervisor()
    await world.until(lambda: len(world.told) == 2)
    assert world.told[-1]["adapters"] == [{"name": "law", "path": "/cache/law"}]
