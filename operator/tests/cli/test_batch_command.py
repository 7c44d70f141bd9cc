"""`llmservice batch` against a server that does what servers do: every line is answered once, whatever happens."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import stat
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ConnectionTimeoutError, web
from batch_world import CHAT, Desk, Server, fine, line  # type: ignore[import-not-found]

from llmservice_cli.batch.asking import Asker, StoppedError
from llmservice_cli.batch.lines import Line

IDS = [f"line {number}" for number in range(40)]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with AsyncExitStack() as stack:
        server = Server()
        await server.open(stack)
        yield Desk(tmp_path, server)


async def test_answers_come_as_openai_writes_them(desk: Desk) -> None:
    desk.write([line("a"), "", line("b")])
    said = await desk.run()
    assert "2 lines: 2 answered, 0 failed." in said and "6 prompt and 4 answer tokens" in said
    first = desk.by_id["a"]
    assert list(first) == ["id", "custom_id", "response", "error"] and first["error"] is None
    assert first["response"]["status_code"] == 200 and first["response"]["body"]["said"] == "a"
    assert first["response"]["request_id"] and first["id"].startswith("batch_req_1_")
    headers = desk.server.headers
    assert headers["X-LLMService-Priority"] == "batch" and headers["Authorization"] == "Bearer secret"


async def test_bad_lines_are_named_by_number_and_all_others_asked(desk: Desk) -> None:
    desk.write([line("a"), "{", line("c", method="GET"), line("d")])
    said = await desk.run(code=1)
    assert "4 lines: 2 answered, 2 failed." in said and "2 x invalid_line (lines 2, 3)" in said
    bad = [result["error"] for result in desk.results if result["error"]]
    assert [error["code"] for error in bad] == ["invalid_line"] * 2
    assert {error["message"][:7] for error in bad} == {"line 2:", "line 3:"}
    assert sorted(desk.server.seen) == ["a", "d"]
    await desk.run(code=1)
    assert len(desk.results) == 4, "nothing is done twice"


async def test_what_was_killed_goes_on_without_doing_or_losing_a_line(desk: Desk) -> None:
    """kill -9 at moments spread over the batch, and each time the last line of the output is torn."""
    desk.write(map(line, IDS))

    async def slow(custom_id: str) -> Any:
        await asyncio.sleep(0.01)
        return await fine(custom_id)

    desk.server.reply = slow
    done: set[str] = set()
    for moment in (1, 9, 15):
        seen = len(desk.server.seen)
        process = await desk.begin("--url", desk.server.url, "--concurrency", "3")
        await desk.server.have(seen + moment)
        process.kill()
        await process.wait()
        assert not done & set(desk.server.seen[seen:]), "an answer that is there is not asked for again"
        done = set(desk.by_id)
        with desk.out.open("ab") as out:
            out.write(b'{"id": "batch_req_7_0123456789abcdef", "custom_id": "to'[: 3 * moment])
    assert "40 lines: 40 answered, 0 failed." in await desk.run()
    assert set(desk.by_id) == set(IDS)


async def test_a_whole_answer_without_its_line_end_counts(desk: Desk) -> None:
    desk.write(map(line, IDS[:5]))
    await desk.run()
    text = desk.out.read_text()
    desk.out.write_text(text.removesuffix("\n"))
    desk.server.seen.clear()
    await desk.run()
    assert desk.server.seen == [] and desk.out.read_text() == text


async def test_ctrl_c_ends_it_cleanly_and_says_how_to_go_on(desk: Desk) -> None:
    desk.write(map(line, IDS))
    held = asyncio.Event()

    async def some(custom_id: str) -> Any:
        if custom_id in IDS[10:]:
            await held.wait()
        return await fine(custom_id)

    desk.server.reply = some
    process = await desk.begin("--url", desk.server.url, "--concurrency", "4")
    await desk.server.have(13)
    process.send_signal(signal.SIGINT)
    said = await desk.end(process, 130)
    assert "Run the same command again: it goes on with the 30 lines left." in said
    held.set()
    assert "out.jsonl has 10 of 40 lines already." in await desk.run()
    assert set(desk.by_id) == set(IDS)


async def test_429_and_503_are_waited_out(desk: Desk) -> None:
    desk.write(map(line, IDS[:4]))
    had = Counter[str]()

    async def busy(custom_id: str) -> Any:
        had[custom_id] += 1
        status = {1: 429, 2: 503}.get(had[custom_id])
        if status is None:
            return await fine(custom_id)
        return web.json_response({"error": {"message": "later"}}, status=status, headers={"Retry-After": "1"})

    desk.server.reply = busy
    assert "4 answered, 0 failed" in await desk.run()
    assert set(had.values()) == {3}


async def test_what_breaks_again_and_again_is_an_error_of_its_line(desk: Desk) -> None:
    desk.write([line("a"), line("breaks"), line("fails"), line("wrong")])

    async def broken(custom_id: str) -> Any:
        if custom_id == "breaks":
            raise ConnectionResetError
        if custom_id == "fails":
            return web.json_response({"error": {"message": "no", "code": "lost"}}, status=502)
        if custom_id == "wrong":
            return web.json_response({"error": {"message": "too long", "code": "context"}}, status=400)
        return await fine(custom_id)

    desk.server.reply = broken
    said = await desk.run(code=1)
    assert Counter(desk.server.seen) == {"a": 1, "breaks": 5, "fails": 5, "wrong": 1}
    assert desk.by_id["breaks"]["error"]["code"] == "connection_broken"
    assert desk.by_id["fails"]["response"]["status_code"] == 502
    assert desk.by_id["wrong"]["response"]["body"]["error"]["code"] == "context"
    for kind in ("connection_broken (line 2)", "502 lost (line 3)", "400 context (line 4): too long"):
        assert f"1 x {kind}" in said
    desk.server.reply = fine
    desk.server.seen.clear()
    assert "4 answered, 0 failed" in await desk.run("--retry-failed")
    assert sorted(desk.server.seen) == ["breaks", "fails", "wrong"] and len(desk.by_id) == 4


async def test_a_service_that_has_failed_for_good_ends_the_batch_and_no_line_is_lost(desk: Desk) -> None:
    desk.write(map(line, IDS))

    async def dead(custom_id: str) -> Any:
        body = {"error": {"message": "apps/demo is not ready (Stopped)."}}
        return web.json_response(body, status=503, headers={"x-should-retry": "false"})

    desk.server.reply = dead
    said = await desk.run(code=1)
    assert "Stopped" in said and "run the same command again" in said and "40 left" in said
    assert desk.results == []
    desk.server.reply = fine
    await desk.run()
    assert set(desk.by_id) == set(IDS)


async def test_a_key_that_may_not_ends_the_batch(desk: Desk) -> None:
    desk.write([line("a")])

    async def refused(_: str) -> Any:
        return web.json_response({"error": {"message": "no such key"}}, status=401)

    desk.server.reply = refused
    assert "OPENAI_API_KEY" in await desk.run(code=1)
    assert desk.results == []


async def test_the_same_custom_id_twice_is_named_before_anything_is_asked(desk: Desk) -> None:
    desk.write([line("a"), line("b"), line("a")])
    said = await desk.run(code=1)
    assert "`a` in lines 1 and 3" in said and desk.server.seen == []


@pytest.mark.parametrize("how", ["itself", "symbolic link", "hard link"])
async def test_the_batch_itself_is_no_output(desk: Desk, how: str) -> None:
    desk.write([line("a")])
    if how == "itself":
        desk.out = desk.input
    else:
        (desk.out.symlink_to if how == "symbolic link" else desk.out.hardlink_to)(desk.input)
    before = desk.input.read_bytes()
    assert "is the batch itself" in await desk.run(code=1)
    assert desk.input.read_bytes() == before and desk.server.seen == []


async def test_two_at_once_do_not_write_to_one_output(desk: Desk) -> None:
    desk.write([line("a")])
    held = asyncio.Event()

    async def later(custom_id: str) -> Any:
        await held.wait()
        return await fine(custom_id)

    desk.server.reply = later
    process = await desk.begin()
    await desk.server.have(1)
    assert "another process writes to" in await desk.run(code=1)
    held.set()
    await desk.end(process, 0)


async def test_an_output_of_another_batch_is_left_alone(desk: Desk) -> None:
    desk.write([line("a"), line("b")])
    await desk.run()
    desk.write([line("a"), line("changed")])
    before = desk.out.read_bytes()
    said = await desk.run(code=1)
    assert "is no answer to a line of" in said and desk.out.read_bytes() == before
    other = before.decode().splitlines()[1].replace('"id": "batch_req_2_', '"id": "batch_req_3_')
    for text in ("my notes\n", "my notes, and no line end", '{"id": "mine"}', other):
        desk.out.write_text(text)
        assert "line 1 is no answer" in await desk.run(code=1)
        assert desk.out.read_text() == text


async def test_a_full_disk_costs_no_line(desk: Desk) -> None:
    desk.write(map(line, IDS))

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    said = await desk.run(code=1, limit=small)
    assert "can't be written" in said and "goes on where it ended" in said
    had = len(desk.results)
    assert 0 < had < 40 and desk.out.read_bytes().endswith(b"\n")
    await desk.run()
    assert set(desk.by_id) == set(IDS)


async def test_a_service_that_is_gone_keeps_no_other_from_its_lines(desk: Desk) -> None:
    desk.write(line(name, body={"model": name[0], "user": name}) for name in ("a1", "b1", "a2", "b2", "a3", "b3"))

    async def a_is_gone(custom_id: str) -> Any:
        if custom_id.startswith("b"):
            return await fine(custom_id)
        body = {"error": {"message": "a is stopped", "code": "service_not_ready"}}
        return web.json_response(body, status=503, headers={"x-should-retry": "false"})

    desk.server.reply = a_is_gone
    said = await desk.run("--concurrency", "1", code=1)
    assert "3 answered, 0 failed, 3 left." in said and "a is stopped" in said
    assert desk.server.seen == ["a1", "b1", "b2", "b3"]
    desk.server.reply = fine
    assert "6 answered, 0 failed." in await desk.run()
    assert set(desk.by_id) == {"a1", "a2", "a3", "b1", "b2", "b3"}


async def test_an_answer_that_nests_too_deeply_is_a_failure_of_its_line(desk: Desk) -> None:
    desk.write(map(line, ("a", "b")))

    async def deep(custom_id: str) -> Any:
        return await fine(custom_id) if custom_id == "b" else web.Response(body=b"[" * 100_000)

    desk.server.reply = deep
    assert "2 lines: 1 answered, 1 failed." in await desk.run(code=1)
    assert desk.by_id["a"]["error"]["code"] == "no_json"


async def test_what_is_written_anew_is_read_by_nobody_else_than_before(desk: Desk) -> None:
    desk.write([line("a"), "{"])
    await desk.run(code=1)
    desk.out.chmod(0o600)
    await desk.run("--retry-failed", code=1)
    assert stat.S_IMODE(desk.out.stat().st_mode) == 0o600
    assert not list(desk.folder.glob(".*.part"))


async def test_an_output_that_does_not_fit_twice_stays_and_leaves_no_part(desk: Desk) -> None:
    desk.write([*map(line, IDS), "{"])
    await desk.run(code=1)
    before = desk.out.read_bytes()

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    assert "can't be written" in await desk.run("--retry-failed", code=1, limit=small)
    assert desk.out.read_bytes() == before
    assert not list(desk.folder.glob(".*.part"))


async def test_a_server_that_comes_later_is_waited_for(desk: Desk, tmp_path: Path) -> None:
    desk.write([line("a")])
    async with AsyncExitStack() as stack:
        gone = Server()
        await gone.open(stack)
    process = await desk.begin("--url", gone.url)
    await asyncio.sleep(0)
    back = web.Application()

    async def reply(_: web.Request) -> Any:
        return await fine("a")

    back.router.add_post("/v1/chat/completions", reply)
    runner = web.AppRunner(back)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", int(gone.url.split(":")[2].partition("/")[0])).start()
        assert "1 answered" in await desk.end(process, 0)
    finally:
        await runner.cleanup()


async def test_a_machine_that_is_silent_is_waited_for_as_one_that_refuses() -> None:
    class Silent:
        def post(self, *_: Any, **__: Any) -> Any:
            raise ConnectionTimeoutError

    session: Any = Silent()
    with pytest.raises(StoppedError, match="is not reached"):
        await Asker(session, "http://silent", away_seconds=0.0).ask(Line(1, "batch_req_1", "a", CHAT, {}))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param(["--concurrency", "0"], "1 to 1024", id="concurrency"),
        pytest.param(["--url", "ftp://x"], "is no base URL", id="url"),
        pytest.param([], "no service is running on this machine", id="nothing runs"),
    ],
)
async def test_what_is_wrong_with_the_command(desk: Desk, words: list[str], told: str) -> None:
    desk.write([line("a")])
    process = await desk.begin(*(words or ["--concurrency", "1"]))
    said, _ = await process.communicate()
    assert process.returncode in (1, 2) and told in said.decode()


async def test_answers_of_any_text_are_kept(desk: Desk) -> None:
    text = 'é 漢 "\\ \u2028 \ud83d\ude00'
    desk.write([line("a")])

    async def strange(_: str) -> Any:
        return web.Response(body=json.dumps({"said": text, "half": "\ud800"}), content_type="application/json")

    desk.server.reply = strange
    await desk.run()
    assert desk.by_id["a"]["response"]["body"] == {"said": json.loads(json.dumps(text)), "half": "\ud800"}
    assert len(os.fsdecode(desk.out.read_bytes()).split("\n")) == 2
