"""`llmservice batch` on the real gateway before real engines: as its page says it, with cold services and all tasks."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from machine_world import CLI, Here, manifest, until  # type: ignore[import-not-found]

from llmservice_cli.batch.serving import to_borrow

MODEL = Path(__file__).parents[3] / "runtime" / "demo" / "model" / "demo-Q4_K_M.gguf"
pytestmark = pytest.mark.engine

PAGE = Path(__file__).parents[3] / "docs" / "batch.md"
ANSWER = "LLMService is a Kubernetes operator"


def line(custom_id: str, url: str, **body: Any) -> str:
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body})


def results(here: Here, name: str = "out.jsonl") -> dict[str, Any]:
    found = [json.loads(text) for text in (here.folder / name).read_text().splitlines()]
    assert len({result["custom_id"] for result in found}) == len(found)
    return {result["custom_id"]: result for result in found}


def test_the_page_works_as_pasted(zoo: Here) -> None:
    text = PAGE.read_text()
    made, read = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    pasted = re.search(r"cat > in.jsonl.*?llmservice batch[^\n]*\n", text, re.DOTALL)
    assert pasted is not None
    env = {**zoo.env, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def shell(command: list[str]) -> str:
        done = subprocess.run(command, env=env, cwd=zoo.folder, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout

    assert "2 lines: 2 answered, 0 failed." in shell(["bash", "-ec", pasted[0]])
    (zoo.folder / "out.jsonl").unlink()
    shell([sys.executable, "-c", made])
    assert "2 answered" in shell(["llmservice", "batch", "in.jsonl", "-o", "out.jsonl"])
    assert re.search(rf"^q0 {ANSWER}", shell([sys.executable, "-c", read]), re.MULTILINE)
    (zoo.folder / "out.jsonl").unlink()


def test_lines_for_several_services_of_which_one_is_cold(zoo: Here) -> None:
    until(lambda: zoo.service("cold")["object"]["status"]["readyReplicas"] == 0)
    messages = [{"role": "user", "content": "What is LLMService?"}]
    chat = {"messages": messages, "temperature": 0, "max_tokens": 50}
    lines = [
        line("warm", "/v1/chat/completions", model="demo", **chat),
        line("cold", "/v1/chat/completions", model="cold", **chat),
        line("responses", "/v1/responses", model="demo", input="What is LLMService?", temperature=0),
        line("text", "/v1/completions", model="demo", prompt="LLMService", max_tokens=3),
        line("vectors", "/v1/embeddings", model="vectors", input=["a cat", "a dog"]),
        line("scores", "/v1/rerank", model="scores", query="a cat", documents=["a dog", "a house"]),
        line("nobody", "/v1/completions", model="nobody", prompt="x"),
        line("long", "/v1/completions", model="demo", prompt="x " * 5000, max_tokens=1),
    ]
    (zoo.folder / "all.jsonl").write_text("\n".join(lines))
    said = zoo.run("batch", "all.jsonl", "-o", "answers.jsonl", code=1, seconds=120)
    assert "8 lines: 6 answered, 2 failed." in said
    assert "1 x 404 model_not_found (line 7)" in said and "1 x 400 context_length_exceeded (line 8)" in said
    found = results(zoo, "answers.jsonl")
    bodies = {name: result["response"]["body"] for name, result in found.items()}
    texts = [bodies[name]["choices"][0]["message"]["content"] for name in ("warm", "cold")]
    assert texts[0] == texts[1] and texts[0].startswith(ANSWER)
    assert len(bodies["vectors"]["data"]) == len(bodies["scores"]["results"]) == 2
    assert bodies["responses"]["output"] and bodies["text"]["choices"][0]["text"]
    log = [json.loads(text) for text in (zoo.state / "logs" / "access.log").read_text().splitlines()]
    mine = {entry["request_id"]: entry for entry in log if entry["request_id"] == found["cold"]["id"]}
    assert mine[found["cold"]["id"]]["priority"] == "batch"


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Here]:
    """A machine with the real engine, on which nothing runs."""
    made = Here(tmp_path, None)
    yield made
    made.end()


def test_a_manifest_is_served_for_as_long_as_it_takes(fresh: Here) -> None:
    file = fresh.write(manifest("demo", uri=f"file://{MODEL}"))
    text = line("a", "/v1/completions", model="whatever", prompt="LLMService", max_tokens=3)
    (fresh.folder / "in.jsonl").write_text(text)
    words = ("batch", "in.jsonl", "-o", "out.jsonl", "-f", file, "--model", "demo")
    assert "1 answered" in fresh.run(*words)
    assert results(fresh)["a"]["response"]["body"]["model"] == "demo"
    until(lambda: not fresh.pids())
    other = fresh.write(manifest("other", uri=f"file://{MODEL}"), name="other.yaml")
    fresh.run("up", "-f", other, "--port", "0", "--detach")
    (fresh.folder / "out.jsonl").unlink()
    assert "1 answered" in fresh.run(*words)
    assert [entry["object"]["metadata"]["name"] for entry in fresh.snapshot()["services"]] == ["other"]


def test_what_was_added_meanwhile_goes_on_running(here: Here) -> None:
    enough = here.folder / "enough"
    file = here.write(manifest("demo", ENOUGH=enough))
    (here.folder / "in.jsonl").write_text(line("a", "/v1/chat/completions", model="demo", messages=[]))
    words = [*CLI, "batch", "in.jsonl", "-o", "out.jsonl", "-f", file]
    with subprocess.Popen(words, env=here.env, cwd=here.folder, stdout=subprocess.PIPE) as process:
        here.ready("demo")
        here.run("up", "-f", here.write(manifest("other"), name="other.yaml"), "--detach")
        enough.touch()
        process.communicate(timeout=60)
    assert [entry["object"]["metadata"]["name"] for entry in here.snapshot()["services"]] == ["other"]


def test_of_two_batches_of_one_manifest_the_first_to_end_leaves_it_to_the_second(here: Here) -> None:
    enough = here.folder / "enough"
    file = here.write(manifest("demo", ENOUGH=enough))
    (here.folder / "in.jsonl").write_text(line("a", "/v1/chat/completions", model="demo", messages=[]))
    words = [*CLI, "batch", "in.jsonl", "-f", file, "-o"]
    with subprocess.Popen([*words, "first.jsonl"], env=here.env, cwd=here.folder, stdout=subprocess.PIPE) as first:
        here.ready("demo")
        with subprocess.Popen([*words, "second.jsonl"], env=here.env, cwd=here.folder, stdout=-1) as second:
            until(lambda: here.snapshot()["lent"] == {"default/demo": 2})
            first.send_signal(signal.SIGKILL)
            first.communicate(timeout=60)
            until(lambda: here.snapshot()["lent"] == {"default/demo": 1})
            assert not here.service("demo")["stopping"]
            enough.touch()
            said, _ = second.communicate(timeout=60)
    assert b"unchanged" in said and b"word0" in said, "the scripted engine, which streams whatever is asked, answered"
    until(lambda: not here.pids())


def test_a_service_that_stops_or_is_lent_is_borrowed_again() -> None:
    def entry(name: str, **more: bool) -> dict[str, Any]:
        return {"object": {"metadata": {"namespace": "default", "name": name}}, **more}

    services = [entry("up", stopping=False), entry("ends", stopping=True), entry("lent"), entry("of-an-earlier-build")]
    now = {"services": services, "lent": {"default/lent": 1}}
    names = [f"default/{name}" for name in ("up", "ends", "lent", "of-an-earlier-build", "new")]
    assert to_borrow(names, now) == ["default/ends", "default/lent", "default/new"]


@pytest.mark.parametrize(
    ("hold", "end"),
    [("HOLD", signal.SIGINT), ("HOLD", signal.SIGTERM), ("ENOUGH", signal.SIGHUP), ("ENOUGH", signal.SIGKILL)],
)
def test_a_batch_that_is_ended_leaves_nothing_running(here: Here, hold: str, end: signal.Signals) -> None:
    """While the model loads, and while it answers."""
    file = here.write(manifest("demo", **{hold: here.folder / "never"}))
    (here.folder / "in.jsonl").write_text(line("a", "/v1/chat/completions", model="demo", messages=[]))
    words = [*CLI, "batch", "in.jsonl", "-o", "out.jsonl", "-f", file]
    with subprocess.Popen(words, env=here.env, cwd=here.folder, stdout=subprocess.PIPE) as process:
        here.ready("demo", 0 if hold == "HOLD" else 1)
        process.send_signal(end)
        process.communicate(timeout=60)
    until(lambda: not here.pids())
