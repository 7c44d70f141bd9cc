"""Nothing starts beside what runs unless it fits: one machine's memory, however many instances, services, replicas."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machine_world import Here, manifest, until  # type: ignore[import-not-found]

from llmservice_cli.local.gpus import GpuNeed
from llmservice_cli.local.holds import Hold, Memory, Need, shortage
from llmservice_cli.local.line import Line
from llmservice_cli.local.room import Claim, Room
from llmservice_cli.local.shared import shared_folder
from llmservice_runtime.contract.failure import FailureClass, FailureRecord
from llmservice_runtime.machine.machine import Device, Gpu

GIB = 1 << 30
SIZES = st.integers(0, 8 * GIB)
HOLDS = st.lists(
    st.builds(lambda model, promised, here, mapped: Hold("apps/a", model, promised, here, min(here, mapped)),
              st.sampled_from(["/a", "/b"]), SIZES, SIZES, SIZES)
)  # fmt: skip


@given(HOLDS, SIZES, SIZES)
def test_what_is_promised_and_not_yet_taken_is_not_free(holds: list[Hold], need: int, free: int) -> None:
    said = shortage("apps/new", Need("/new", need), Memory(8 * GIB, free, tuple(holds)))
    assert bool(said) == (need > free - sum(max(0, hold.promised - hold.resident) for hold in holds))
    plenty = Memory(8 * GIB, free + 8 * GIB * len(holds) + need, tuple(holds))
    assert shortage("apps/new", Need("/new", need), plenty) == ""


def test_a_file_that_is_mapped_is_there_already() -> None:
    memory = Memory(16 * GIB, 2 * GIB, (Hold("apps/a", "/m.gguf", 6 * GIB, 6 * GIB, 4 * GIB),))
    assert shortage("apps/a", Need("/m.gguf", 6 * GIB), memory) == ""
    said = shortage("apps/b", Need("/other.gguf", 6 * GIB), memory)
    assert "takes 6.0 GiB" in said and "2.0 GiB of 16.0 GiB are left" in said and "apps/a" in said


def test_two_instances_at_once_do_not_both_take_the_last_of_it(tmp_path: Path) -> None:
    rooms = [Room(tmp_path, lambda: (16 * GIB, 10 * GIB)) for _ in range(2)]
    got: list[Claim | FailureRecord] = []
    threads = [
        threading.Thread(target=lambda room=room: got.append(room.claim("apps/a", Need("/m", 3 * GIB))))
        for room in rooms * 4
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    claims = [one for one in got if isinstance(one, Claim)]
    refused = [one for one in got if isinstance(one, FailureRecord)]
    assert len(claims) == 3 and len(refused) == 5
    assert all(one.failure is FailureClass.DOES_NOT_FIT and "apps/a holds" in one.message for one in refused)
    claims.pop().release()
    assert isinstance(rooms[1].claim("apps/b", Need("/m", 3 * GIB)), Claim)


def test_what_a_replica_has_taken_is_counted_once(tmp_path: Path) -> None:
    room = Room(tmp_path, lambda: (16 * GIB, 10 * GIB))
    claim = room.claim("apps/a", Need("/m", 8 * GIB))
    assert isinstance(claim, Claim)
    assert sum(hold.missing for hold in room.holds()) == 8 * GIB
    claim.runs_in(os.getpid())
    (hold,) = room.holds()
    assert 0 < hold.resident < GIB and hold.missing == 8 * GIB - hold.resident


def test_the_claims_of_a_dead_instance_are_gone(tmp_path: Path) -> None:
    (tmp_path / "x.claim").write_text('{"service": "a/b", "model": "/m", "promised": 1, "engine": 0, "instance": 1}')
    assert Room(tmp_path).holds() == []
    assert not list(tmp_path.glob("*.claim"))


def test_a_folder_that_can_not_be_used_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    room = Room(tmp_path / "file" / "x", lambda: (16 * GIB, 10 * GIB))
    claim = room.claim("apps/a", Need("/m", GIB))
    assert isinstance(claim, Claim)
    claim.release()
    assert isinstance(room.claim("apps/a", Need("/m", 11 * GIB)), FailureRecord)


@pytest.mark.parametrize("function", ["mkstemp", "pwrite"])
def test_on_a_full_disk_an_instance_knows_what_its_own_replicas_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile if function == "mkstemp" else os, function, full)
    gpu = Gpu("L4", Device.NVIDIA, 24 * GIB, id="0")
    room = Room(tmp_path, lambda: (16 * GIB, 10 * GIB), gpus=lambda: (gpu,))
    need = Need("/m", 4 * GIB, GpuNeed("L4", 1))
    claim = room.claim("apps/a", need)
    assert isinstance(claim, Claim) and claim.gpus == (gpu,)
    refused = room.claim("apps/b", need)
    assert isinstance(refused, FailureRecord) and "apps/a has GPU" in refused.message
    claim.release()
    assert room.holds() == [] and isinstance(room.claim("apps/b", need), Claim)


def test_a_folder_that_another_user_made_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = Room(tmp_path, lambda: (16 * GIB, 10 * GIB))
    assert isinstance(theirs.claim("apps/a", Need("/m", 10 * GIB)), Claim)
    made = os.getuid()
    with (tmp_path / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        monkeypatch.setattr(os, "getuid", lambda: made + 1)
        ours = Room(tmp_path, lambda: (16 * GIB, 10 * GIB))
        assert isinstance(ours.claim("apps/b", Need("/m", 10 * GIB)), Claim)
        assert [hold.service for hold in ours.holds()] == ["apps/b"]


def another_instance(here: Here) -> Claim:
    """It has promised its service all memory there is."""
    room = Room(here.runtime / f"llmservice-{os.getuid()}", lambda: (1 << 60, 1 << 60))
    claim = room.claim("other/big", Need("/big.gguf", 1 << 50))
    assert isinstance(claim, Claim)
    return claim


def test_a_second_replica_waits_until_there_is_room(here: Here) -> None:
    here.run("up", "-f", here.write(manifest("demo")), "--port", "0", "--detach")
    big = another_instance(here)
    here.run("scale", "demo", "--replicas", "2")
    until(lambda: any(facts["held"] for facts in here.service("demo")["replicas"]))
    row = here.run("ps")
    assert "1/2" in row and "DoesNotFit" in row
    assert f"other/big (of another instance, pid {os.getpid()}) holds" in here.run("ps", "-o", "wide")
    assert "DoesNotFit" in here.up(manifest("demo", SAY="new"))  # nor is there room for a changed one beside it
    here.ready("demo")
    big.release()
    here.run("scale", "demo", "--replicas", "2")
    here.ready("demo", 2)
    assert "DoesNotFit" not in here.run("ps")


def test_hundreds_of_replicas_that_wait_for_room_keep_nobody_waiting(here: Here) -> None:
    """They froze the instance: it answered no command, and replicas that served were killed as silent."""
    here.run("up", "-f", here.write(manifest("demo")), "--port", "0", "--detach")
    serving = here.ready("demo")["replicas"][0]["pid"]
    big = another_instance(here)
    here.run("scale", "demo", "--replicas", "300")
    until(lambda: sum(facts["held"] for facts in here.service("demo")["replicas"]) == 299, 120)
    for _ in range(3):
        assert "1/300" in here.run("ps")
    assert "unchanged" not in here.run("scale", "demo", "--replicas", "1")
    assert here.ready("demo")["replicas"][0]["pid"] == serving
    big.release()


async def test_of_hundreds_that_wait_in_a_line_one_asks_and_all_hear(tmp_path: Path) -> None:
    asked: list[Claim | FailureRecord] = []
    room = Room(tmp_path, lambda: (2 * GIB, 2 * GIB))

    def claim(_: str) -> Claim | FailureRecord:
        asked.append(room.claim("apps/a", Need("/m", GIB)))
        return asked[-1]

    line = Line(claim)
    answers = await asyncio.gather(*(line.ask("a") for _ in range(300)))
    claims = [one for one in answers if isinstance(one, Claim)]
    assert len(claims) == 2 and len(asked) < 30  # it is asked again when a second has passed, on a machine so busy
    for one in claims:
        one.release()


def test_a_service_that_does_not_fit_beside_what_runs_is_refused_with_who_has_it(here: Here) -> None:
    big = another_instance(here)
    said = here.run("up", "-f", here.write(manifest("demo")), "--port", "0", "--detach", code=1)
    assert "other/big (of another instance" in said and "DoesNotFit" in said and "llmservice scale NAME" in said
    until(lambda: not here.pids())
    big.release()


def test_what_the_instance_that_is_joined_holds_is_not_anothers(here: Here) -> None:
    here.run("up", "-f", here.write(manifest("demo")), "--port", "0", "--detach")
    big = another_instance(here)
    said = here.run("up", "-f", here.write(manifest("more")), code=1)
    assert "default/demo holds" in said and "other/big (of another instance" in said
    big.release()


def test_what_all_instances_share_is_not_where_files_age(tmp_path: Path) -> None:
    session, home = tmp_path / "session", {"HOME": str(tmp_path), "LLMSERVICE_STATE_DIR": str(tmp_path / "one")}
    none = tmp_path / "none"
    state = tmp_path / ".local/state/llmservice"
    assert shared_folder(home, none).parent == state, "whatever an instance's own state folder is"
    assert shared_folder({**home, "XDG_RUNTIME_DIR": str(session)}, none).parent == state, "it is not there"
    session.mkdir()
    assert shared_folder({**home, "XDG_RUNTIME_DIR": str(session)}, none).parent == session
    (tmp_path / "run" / str(os.getuid())).mkdir(parents=True)
    assert shared_folder(home, tmp_path / "run").parent == tmp_path / "run" / str(os.getuid()), "as from cron"
    (tmp_path / "file").touch()
    assert shared_folder({"HOME": str(tmp_path / "file")}, none).parent == Path(tempfile.gettempdir())


def test_instances_that_run_are_known_by_their_state_folders(tmp_path: Path) -> None:
    room = Room(tmp_path / "room")
    assert room.instances() == []
    one, two = room.announce(tmp_path / "a"), room.announce(tmp_path / "b")
    assert sorted(Room(tmp_path / "room").instances()) == [tmp_path / "a", tmp_path / "b"]
    assert room.holds() == []
    one.release()
    assert room.instances() == [tmp_path / "b"]
    two.release()
    (tmp_path / "room" / "x.instance").write_text('{"state": "/of/a/dead/one"}')
    assert room.instances() == []


def test_an_instance_is_known_to_others_until_it_ends(here: Here) -> None:
    here.run("up", "-f", here.write(manifest("demo")), "--port", "0", "--detach")
    here.run("scale", "demo", "--replicas", "0")
    room = Room(here.runtime / f"llmservice-{os.getuid()}")
    assert room.instances() == [here.state]
    here.run("down")
    until(lambda: not room.instances())
