"""Services that do not fit on one machine together take turns: as a user has it, with `--memory` for a smaller one."""

from __future__ import annotations

import asyncio
import json
import random
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from machine_world import Here, Stream, manifest, until  # type: ignore[import-not-found]

from llmservice_cli.local.tell import condition

MODEL = Path(__file__).parents[3] / "runtime" / "demo" / "model" / "demo-Q4_K_M.gguf"
NAMES = ("a", "b", "c")


def sharing(name: str, *, least: int = 0, most: int = 1, uri: str = "file://tiny.gguf", **env: object) -> str:
    """A service that gives way, but for `least` replicas."""
    body = json.loads(manifest(name, uri=uri, **env))
    body["spec"]["scaling"] = {"minReplicas": least, "maxReplicas": most, "idleSeconds": 600, "scaleDownSeconds": 600}
    del body["spec"]["replicas"]
    return large(body)


def large(body: dict[str, Any]) -> str:
    """So large that a plan's reserve of 256 MiB beside it is not enough for a second one."""
    body["spec"]["engine"]["args"] = ["--ubatch-size", "16384", "--batch-size", "16384"]
    return json.dumps(body)


def up(here: Here, *manifests: str, fit: float = 1.0) -> str:
    """Serve them on a machine that has memory for `fit` of them."""
    bodies = [json.loads(text) for text in manifests]
    (plan, *_) = json.loads(here.run("plan", "-f", here.write(json.dumps(bodies[0]), name="one.yaml"), "-o", "json"))
    need = sum(line["bytes"] for line in plan["plan"]["memory"])
    assert need > 280 << 20, need
    size = int(fit * need) + (260 << 20)
    file = here.write(*manifests)
    words = ("up", "-f", file, "--port", "0", "--detach", "--memory", f"{size >> 20}Mi")
    return str(here.run(*words, seconds=300))


def said(here: Here) -> str:
    return str((here.state / "up.log").read_text())


async def mixed(url: str, rounds: int) -> list[tuple[str, str]]:
    """20 clients, each with `rounds` requests to one or the other service; (which one, the answer)."""
    dice = random.Random(7)
    plan = [[dice.choice(NAMES) for _ in range(rounds)] for _ in range(20)]

    async def client(session: aiohttp.ClientSession, asked: list[str]) -> list[tuple[str, str]]:
        answers = []
        for name in asked:
            question = {"role": "user", "content": "What is LLMService?"}
            body = {"model": name, "stream": True, "temperature": 0, "messages": [question]}
            async with session.post(f"{url}/chat/completions", json=body) as answer:
                answers.append((name, await answer.text()))
        return answers

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=300)) as session:
        found = await asyncio.gather(*(client(session, asked) for asked in plan))
    return [answer for answers in found for answer in answers]


def takes_turns(here: Here, word: str) -> None:
    """60 mixed requests, none lost, and no more changes than turns of 5 s allow."""
    answers = asyncio.run(mixed(here.snapshot()["url"], 3))
    assert len(answers) == 60
    for name, text in answers:
        assert "[DONE]" in text and word.format(name) in text, (name, text)
    assert len(re.findall("0 -> 1 replicas", said(here))) <= 12
    rows = here.run("ps", "-o", "wide")
    gone = re.findall("Idle: It gave way to default/[abc]; a request waits and starts it", rows)
    assert len(gone) == 2 and len([row for row in rows.splitlines() if " 1/1 " in row]) == 1, rows
    assert re.search(r"default/[abc]: 1 -> 0 replicas: it gave way to default/[abc]", said(here))


def test_three_of_which_one_fits_answer_sixty_mixed_requests(here: Here) -> None:
    assert "serving default/a, default/b, default/c" in up(here, *(sharing(name, SAY=name) for name in NAMES))
    rows = here.run("ps", "-o", "wide")
    assert rows.count("Idle: It found no room beside what runs, and nobody asks for it now") == 2
    takes_turns(here, "{}2 ")
    idle = next(row.split()[0] for row in here.run("ps").splitlines() if "gave way" in row)
    told = here.run("explain", idle)
    assert "It gave way to default/" in told and "GaveWay: it gave way to default/" in told
    status = here.service(idle.partition("/")[2])["object"]["status"]
    assert status["scaling"]["reason"] == "GaveWay" and status["scaling"]["desiredReplicas"] == 0


@pytest.mark.engine
def test_three_real_ones_of_which_one_fits_answer_sixty_mixed_requests(tmp_path: Path) -> None:
    here = Here(tmp_path, None)
    try:
        up(here, *(sharing(name, uri=f"file://{MODEL}") for name in NAMES))
        takes_turns(here, "LLMService")
    finally:
        here.end()


def test_a_stream_is_never_cut_and_what_comes_after_it_waits_for_its_turn(here: Here) -> None:
    enough = here.folder / "enough"
    up(here, sharing("a", SAY="a", ENOUGH=enough), sharing("b", SAY="b"))
    first = ask(here, "a")
    until(lambda: first.began > 0)
    asked = [ask(here, "b")]
    until(lambda: condition(here.service("a"), "Progressing")["reason"] == "GivesWay")
    assert "It gives way to default/b once what it answers is done." in here.run("ps", "-o", "wide")
    assert "It waits for room: default/a gives way to it." in here.run("ps", "-o", "wide")
    asked.append(ask(here, "a"))
    enough.touch()
    assert "a2" in first.whole(120) and "[DONE]" in first.text
    assert "b2" in asked[0].whole(120) and "[DONE]" in asked[0].text
    assert "a2" in asked[1].whole(120) and "[DONE]" in asked[1].text
    assert asked[0].ended < asked[1].began


def test_a_service_that_stays_has_its_room_and_what_does_not_fit_beside_it_says_so(here: Here) -> None:
    up(here, sharing("a", SAY="a"))
    assert "serving default/stays" in here.up(large(json.loads(manifest("stays"))))
    assert "gave way to default/stays" in said(here)
    answer = ask(here, "a").whole(120)
    assert "DoesNotFit" in answer and "default/stays holds" in answer
    assert "have it make room for what is asked for (scaling.minReplicas: 0)" in answer
    until(lambda: "0/0" in next(row for row in here.run("ps").splitlines() if "default/a" in row))
    here.up(sharing("stays"))  # what the message says to do
    assert "a2" in ask(here, "a").whole(120)
    assert "Idle: It gave way to default/a" in here.run("ps")


def test_one_whose_edit_failed_goes_on_and_what_does_not_fit_beside_it_says_so(here: Here) -> None:
    up(here, sharing("a", SAY="a"), sharing("b", SAY="b"))
    assert "a2" in ask(here, "a").whole(120)
    assert "ModelNotFound" in here.up(sharing("a", uri="file://gone.gguf"))
    answer = ask(here, "b").whole(60)
    assert "DoesNotFit" in answer and "default/a holds" in answer
    assert "a2" in ask(here, "a").whole(60)
    until(lambda: "0/0" in next(row for row in here.run("ps").splitlines() if "default/b" in row))
    here.up(sharing("a", SAY="a"))
    assert "b2" in ask(here, "b").whole(120)


def test_minimum_replicas_stay_and_what_is_beyond_them_goes(here: Here) -> None:
    enough = here.folder / "enough"
    up(here, sharing("a", least=1, most=2, SAY="a", ENOUGH=enough), fit=2.0)
    streams = [ask(here, "a") for _ in range(20)]
    here.ready("a", 2)
    here.up(sharing("b", SAY="b"))
    asked = ask(here, "b")
    until(lambda: "gives way to it" in condition(here.service("b"), "Ready")["message"])
    assert not asked.text
    enough.touch()
    assert all("[DONE]" in stream.whole(120) for stream in streams)
    assert "b2" in asked.whole(120)
    assert here.ready("a")["object"]["spec"]["replicas"] == 1
    assert "[DONE]" in ask(here, "a").whole(120)


def test_what_can_not_fit_even_alone_is_refused_when_it_is_planned(here: Here) -> None:
    file = here.write(sharing("a"))
    told = here.run("up", "-f", file, "--port", "0", "--detach", "--memory", "300Mi", code=1)
    assert "DoesNotFit" in told and "300.0 MiB" not in here.run("ps", code=None)
    assert "between 100Mi and 64Ti" in here.run("up", "-f", file, "--memory", "much", code=2)


def ask(here: Here, name: str) -> Stream:
    """A request that may wait before its answer begins."""
    return Stream(here.snapshot()["url"], name, begun=False)
