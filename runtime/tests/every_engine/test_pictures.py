"""Pictures in chats: the demo model behind a random encoder, on the engines that see; by name refused on the other."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pictures.drawn import asked, file, halves, noise, png, shown, url  # type: ignore[import-not-found]
from pictures.seeing import TOKENS, gguf_folder, llava_folder  # type: ignore[import-not-found]

from demo.make_gguf import derive
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.estimate.adapters import AdapterRoom

from .api import CHAT, MESSAGES, TOKENIZE, Api, text_of
from .engines import CONTEXT, NAME, planned_of
from .golden import FOLDER, WRITE
from .replica import Replica

COLOURS = (("black", "black"), ("red", "magenta"), ("yellow", "magenta"), ("blue", "white"), ("blue", "blue"))
"""Of each the model says something else, and would say no other thing by 0.8 of a log-probability."""
BLIND = EngineType.TRANSFORMERS
PAGE = Path(__file__).parents[3] / "docs" / "images.md"


@pytest.fixture(scope="session")
def seeing(engine: EngineType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A replica of a model that sees, as it is planned; of the engine that can't, the demo model's."""
    folder = tmp_path_factory.mktemp("seeing")
    if engine is BLIND:
        serves = None
    else:
        # The same numbers for all, so that what they say can be compared.
        path = gguf_folder(folder, derive("F16")) if engine is EngineType.LLAMA_CPP else llava_folder(folder)
        serves = settings_of(path, engine)
    replica = Replica(tmp_path_factory.mktemp("replica"), engine, serves=serves)
    try:
        replica.wait_ready()
        yield Api(replica.url)
    finally:
        replica.stop()


def settings_of(path: Path, engine: EngineType) -> RuntimeSettings:
    found: RuntimeSettings = planned_of(path, engine, 4, AdapterRoom())
    exact = ("--dtype=float32",) if engine is EngineType.VLLM else ()
    args = (*found.engine_args, *exact)
    return dataclasses.replace(found, port=0, supervisor_port=0, threads=1, engine_args=args)


@pytest.fixture
def sees(engine: EngineType, seeing: Api) -> bool:
    """Whether the engine does; one that does not says so of any picture."""
    if engine is BLIND:
        error = seeing.refused(CHAT, {"model": NAME, "messages": shown(1)})
        assert error["param"] == "messages.0.content.0" and "image_url" in error["message"]
    return engine is not BLIND


def test_an_answer_depends_on_its_picture(seeing: Api, sees: bool) -> None:
    if not sees:
        return
    answers = [seeing.say(messages=shown(seed), max_tokens=24, ignore_eos=True) for seed in (1, 2, 3)]
    assert len(set(answers)) > 1, answers
    assert [seeing.say(messages=shown(seed), max_tokens=24, ignore_eos=True) for seed in (1, 2, 3)] == answers
    assert text_of(seeing.chunks(messages=shown(1), max_tokens=24, ignore_eos=True)) == answers[0]


def test_all_engines_see_the_same(seeing: Api, sees: bool) -> None:
    """What the first engine says of some pictures, and how likely it finds that, is in a file. They have plain colours:
    to make one as large as it is already, llama.cpp mixes neighbours."""
    if not sees:
        return
    found = [scored(seeing, *colours) for colours in COLOURS]
    file = FOLDER / "pictures.json"
    if WRITE:
        file.write_text(json.dumps(found) + "\n")
    known = json.loads(file.read_text())
    assert len({text for text, _ in known}) == len(COLOURS), "who leaves pictures out says the same of all"
    assert [text for text, _ in found] == [text for text, _ in known]
    for (_, scores), (_, right) in zip(found, known, strict=True):
        assert scores == pytest.approx(right, abs=0.2)


def scored(seeing: Api, *colours: str) -> tuple[str, list[float]]:
    """An answer, and how likely each token of it was."""
    messages = asked(url(file(halves(*colours))), "?")
    choice = seeing.chat(messages=messages, max_tokens=6, ignore_eos=True, logprobs=True)["choices"][0]
    return choice["message"]["content"], [round(token["logprob"], 3) for token in choice["logprobs"]["content"]]


def test_many_at_a_time_are_not_mixed_up(seeing: Api, sees: bool) -> None:
    if not sees:
        return
    seeds = [1, 2, 3, 4, 1, 2, 3, 4, 5, 6]
    alone = {seed: seeing.say(messages=shown(seed, "And now?"), max_tokens=16, ignore_eos=True) for seed in {*seeds}}
    with ThreadPoolExecutor(len(seeds)) as pool:
        together = list(
            pool.map(lambda seed: seeing.say(messages=shown(seed, "And now?"), max_tokens=16, ignore_eos=True), seeds)
        )
    assert together == [alone[seed] for seed in seeds]
    assert len(set(together)) > 1


def test_its_tokens_are_counted(seeing: Api, sees: bool) -> None:
    if not sees:
        return
    bare = seeing.chat(messages=[{"role": "user", "content": "What is this?"}], max_tokens=1)["usage"]
    found = seeing.chat(messages=shown(7), max_tokens=1)["usage"]
    assert TOKENS <= found["prompt_tokens"] - bare["prompt_tokens"] <= TOKENS + 1  # where the text's parts are joined
    counted = seeing.send(TOKENIZE, {"model": NAME, "messages": shown(7)}).body
    assert counted["count"] == found["prompt_tokens"]
    long = seeing.refused(CHAT, {"model": NAME, "messages": shown(7), "max_tokens": 2048})
    assert long["code"] == "context_length_exceeded" or "context" in long["message"]
    room = CONTEXT - found["prompt_tokens"]
    beyond = seeing.refused(CHAT, {"model": NAME, "messages": shown(7), "max_tokens": room + 1})
    assert beyond["code"] == "context_length_exceeded", "text alone would fit"
    assert seeing.chat(messages=shown(7), max_tokens=room)["usage"]["completion_tokens"] <= room


def test_a_chat_goes_on_from_its_picture(seeing: Api, sees: bool) -> None:
    if not sees:
        return
    first = seeing.say(messages=shown(8), max_tokens=8)
    turns = [*shown(8), {"role": "assistant", "content": first}, {"role": "user", "content": "Why?"}]
    body = seeing.chat(messages=turns, max_tokens=8)
    assert seeing.chat(messages=turns, max_tokens=8)["choices"] == body["choices"]
    two = [*shown(8), {"role": "assistant", "content": first}, *shown(9, "And this?")]
    assert seeing.chat(messages=two, max_tokens=8)["usage"]["prompt_tokens"] > body["usage"]["prompt_tokens"]


def test_text_alone_is_answered_as_ever(seeing: Api, sees: bool) -> None:
    assert seeing.say(messages=MESSAGES).startswith("The capital of Finland")


def test_kinds_of_files(seeing: Api, sees: bool) -> None:
    for kind in ("JPEG", "WEBP", "GIF"):
        messages = asked(url(file(noise(5, 90, 40), kind), kind.lower()))
        if sees:
            assert seeing.say(messages=messages, max_tokens=4)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://169.254.169.254/latest/meta-data", "from no address"),
        ("http://127.0.0.1:9/x.png", "from no address"),
        (url(png(30_000, 30_000)), "30000 x 30000"),
        (url(file(noise(1))[:700]), "broken"),
        (url(b"no picture"), "no picture"),
    ],
    ids=["metadata", "loopback", "huge", "cut", "text"],
)
def test_what_can_not_be_shown_is_refused_by_its_place(seeing: Api, sees: bool, address: str, said: str) -> None:
    error = seeing.refused(CHAT, {"model": NAME, "messages": [*MESSAGES, *asked(address)]})
    assert error["param"].startswith("messages.1.content.0")
    assert said in error["message"] or not sees


def test_too_many_are_refused(seeing: Api, sees: bool) -> None:
    picture = shown(1)[0]["content"][0]
    error = seeing.refused(CHAT, {"model": NAME, "messages": [{"role": "user", "content": [picture] * 17}]})
    assert error["param"] == ("messages.0.content.16" if sees else "messages.0.content.0")


def test_a_large_one_comes_through(seeing: Api, sees: bool) -> None:
    """Of megabytes, where a prompt of the context could never have so many."""
    data = file(noise(3, 1200, 900))
    assert len(data) > 3 << 20
    body = json.dumps({"model": NAME, "messages": asked(url(data)), "max_tokens": 4, "temperature": 0}).encode()
    reply = seeing.send(CHAT, body)
    assert reply.status == (200 if sees else 400), reply.raw[:500]


def test_the_client_of_the_page(seeing: Api, sees: bool, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    code = code.replace("http://127.0.0.1:8080", seeing.url).replace("apps/seeing", NAME)
    (tmp_path / "picture.png").write_bytes(file(noise(1)))
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    if sees:
        assert ran.returncode == 0 and "the picture's among them" in ran.stdout, ran.stderr
    else:
        assert "image_url" in ran.stderr
