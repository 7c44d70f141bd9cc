"""Models that clients of Xinference and Ollama launch and remove by requests, on one machine: `up --allow-launch`."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest
from machine_world import Here, manifest, until  # type: ignore[import-not-found]
from ollama_world import DEMO  # type: ignore[import-not-found]
from small_hub import SmallHub  # type: ignore[import-not-found]
from xinference_client import RESTfulClient

from llmservice_cli.local.client import NoInstanceError

MODEL = DEMO.read_bytes()
LARGE = MODEL + bytes(24 << 20)


@pytest.fixture
def hub(here: Here) -> Iterator[SmallHub]:
    with SmallHub({"demo-Q4_K_M.gguf": MODEL, "demo-Q8_0.gguf": LARGE, "demo-Q2_K.gguf": b"broken"}).open() as made:
        here.env |= {"HF_ENDPOINT": made.url, "LLMSERVICE_CACHE_DIR": str(here.folder / "cache"), "NO_PROXY": "*"}
        here.env["OLLAMA_MODELS"] = str(here.folder / "none")
        yield made


@pytest.fixture
def root(here: Here, hub: SmallHub) -> str:
    """Of an instance that launches models of the hub, beside one service that a person made."""
    words = ("--port", "0", "--detach", "--timeout", "60", "--allow-launch", "hf")
    here.run("up", "-f", here.write(manifest("own")), *words)
    return str(here.snapshot()["url"].removesuffix("/v1"))


def names(here: Here) -> list[str]:
    return sorted(entry["object"]["metadata"]["name"] for entry in here.snapshot()["services"])


def snapshot(here: Here) -> dict[str, Any]:
    """What runs; empty = nothing does yet."""
    try:
        found: dict[str, Any] = here.snapshot()
        return found
    except NoInstanceError:
        return {}


def kept(here: Here) -> list[str]:
    return sorted(path.name for path in (here.folder / "cache").glob("models/hf/*/*/*.gguf"))


def test_xinferences_client_launches_a_model_and_ends_it(here: Here, root: str) -> None:
    client = RESTfulClient(root)
    uid = client.launch_model("acme/demo", model_format="ggufv2", quantization="Q4_K_M", n_gpu=None)
    assert uid == "default.demo-q4-k-m" and here.ready("demo-q4-k-m")
    assert client.get_launch_model_progress(uid) == {"progress": 1.0}
    assert client.describe_model(uid)["replica"] == 1
    with pytest.raises(RuntimeError, match=r"There is a service default/demo-q4-k-m already.*model_uid"):
        client.launch_model("acme/demo", quantization="Q4_K_M")
    other = client.launch_model("acme/demo", model_uid="mine", quantization="Q4_K_M", max_model_len=64)
    assert other == "default.mine" and here.service("mine")["object"]["spec"]["contextTokens"] == 64
    client.terminate_model(uid)
    assert names(here) == ["mine", "own"] and kept(here) == ["demo-Q4_K_M.gguf"]
    with pytest.raises(RuntimeError, match="does not exist"):
        client.terminate_model(uid)
    with pytest.raises(RuntimeError, match=r"default/own was launched by no client.*llmservice.dev/launched"):
        client.terminate_model("default.own")
    here.run("down", "own")
    client.terminate_model("mine")
    assert names(here) == [], "it stays, for the next launch"


def test_a_launch_that_is_not_waited_for_is_followed_and_cancelled(here: Here, root: str, hub: SmallHub) -> None:
    client = RESTfulClient(root)
    hub.go.clear()
    uid = client.launch_model("acme/demo", quantization="Q8_0", wait_ready=False)
    assert hub.held.wait(30)
    until(lambda: 0 < client.get_launch_model_progress(uid)["progress"] < 0.9)
    client.cancel_launch_model(uid)
    hub.go.set()
    assert names(here) == ["own"] and kept(here) == []
    with pytest.raises(RuntimeError, match="does not exist"):
        client.get_launch_model_progress(uid)


def test_what_can_not_be_launched_is_told_and_leaves_nothing(here: Here, root: str) -> None:
    client = RESTfulClient(root)
    for name, fields, said in (
        ("qwen2.5-instruct", {}, "a name as Xinference's own registry has them"),
        (str(here.folder / "tiny.gguf"), {}, r"file:// are not launched here, only from hf\. Start the instance with"),
        ("acme/demo", {"quantization": "Q5_K_M"}, "has no Q5_K_M"),
        ("acme/nobody", {}, "nobody"),
        ("acme/demo", {"model_engine": "sglang"}, "model_engine"),
        ("acme/demo", {"quantization": "Q4_K_M", "max_model_len": 100_000}, "can't be served"),
    ):
        with pytest.raises(RuntimeError, match=said):
            client.launch_model(name, **fields)
    until(lambda: names(here) == ["own"])


def test_ollamas_client_pulls_a_model_asks_it_and_deletes_it(here: Here, root: str, hub: SmallHub) -> None:
    with ollama.Client(root) as client:
        told = list(client.pull("acme/demo:Q8_0", stream=True))
        assert told[0].status == "pulling manifest" and told[-1].status == "success"
        assert {one.total for one in told if one.digest} == {len(LARGE)}
        assert [one.completed for one in told if one.digest][-1] == len(LARGE)
        assert client.pull("acme/demo:Q8_0").status == "success" and len(names(here)) == 2, "it is there"
        assert here.service("demo-q8-0")["object"]["status"]["readyReplicas"] == 0, "it is only brought"
        pieces = client.chat("acme/demo:Q8_0", [{"role": "user", "content": "x"}], stream=True)
        said = "".join(piece.message.content or "" for piece in pieces)
        assert said.startswith("word"), "the request woke it"
        assert client.delete("acme/demo:Q8_0").status == "success"
        assert names(here) == ["own"] and kept(here) == []
        with pytest.raises(ollama.ResponseError, match="launched by no client"):
            client.delete("own")
        with pytest.raises(ollama.ResponseError, match="ollama pull llama9") as unknown:
            client.pull("llama9")
        assert unknown.value.status_code == 404
        with pytest.raises(ollama.ResponseError, match="insecure"):
            client.pull("acme/demo:Q8_0", insecure=True)


def test_an_instance_may_begin_with_nothing_and_serve_what_is_launched(here: Here, hub: SmallHub) -> None:
    said = here.run("up", "--allow-launch", "hf", "--port", "0", "--detach")
    assert "serving what clients launch" in said
    client = RESTfulClient(here.snapshot()["url"].removesuffix("/v1"))
    uid = client.launch_model("acme/demo:Q4_K_M")
    client.terminate_model(uid)
    assert names(here) == []
    here.run("down")
    with here.foreground("--allow-launch", "hf", "--port", "0") as process:
        until(lambda: snapshot(here).get("pid") == process.pid)  # the other one's last answer may still come
        client = RESTfulClient(here.snapshot()["url"].removesuffix("/v1"))
        assert client.launch_model("acme/demo", quantization="Q4_K_M") == uid
        here.run("down")


def test_a_pull_goes_on_when_its_client_leaves(here: Here, root: str, hub: SmallHub) -> None:
    hub.go.clear()
    left = threading.Event()

    def leave() -> None:
        with httpx.stream("POST", f"{root}/api/pull", json={"model": "acme/demo:Q8_0"}) as answer:
            next(answer.iter_bytes())
            assert hub.held.wait(30)
        left.set()

    thread = threading.Thread(target=leave)
    thread.start()
    assert left.wait(60)
    thread.join()
    hub.go.set()
    until(lambda: kept(here) == ["demo-Q8_0.gguf"])


def line(pid: int) -> bytes:
    """Of a process; empty when it is no more."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_what_an_instance_brings_ends_with_it(here: Here, root: str, hub: SmallHub) -> None:
    """Also when it is killed, and while a download hangs."""
    hub.go.clear()
    RESTfulClient(root).launch_model("acme/demo", quantization="Q8_0", wait_ready=False)
    assert hub.held.wait(30)
    brings = [int(found.name) for found in Path("/proc").glob("[0-9]*") if b"local.launch" in line(int(found.name))]
    instance = here.snapshot()["pid"]
    (child,) = [pid for pid in brings if f"PPid:\t{instance}\n" in Path(f"/proc/{pid}/status").read_text()]
    os.kill(instance, signal.SIGKILL)
    until(lambda: not line(child))


def test_a_pull_of_what_is_being_pulled_joins_it_and_one_that_failed_is_tried_again(
    here: Here, root: str, hub: SmallHub
) -> None:
    def pull(word: str) -> httpx.Response:
        return httpx.post(f"{root}/api/pull", json={"model": word, "stream": False}, timeout=60)

    with ThreadPoolExecutor() as threads:
        hub.go.clear()
        first = threads.submit(pull, "acme/demo:Q8_0")
        assert hub.held.wait(30)
        second = threads.submit(pull, "acme/demo:Q8_0")
        until(lambda: "demo-q8-0" in names(here))
        hub.go.set()
        assert [one.result().json() for one in (first, second)] == [{"status": "success"}] * 2
    assert names(here) == ["demo-q8-0", "own"]
    for _ in range(2):
        told = pull("acme/demo:Q2_K")
        assert told.status_code == 422 and names(here) == ["demo-q8-0", "own"]
    told = pull(str(here.folder / "x" / "evil.gguf"))
    assert told.status_code == 403 and "only from hf" in told.json()["error"]


def test_nothing_is_launched_unless_it_is_allowed_nor_for_other_machines(here: Here) -> None:
    here.run("up", "-f", here.write(manifest("own")), "--port", "0", "--detach", "--timeout", "60")
    root = here.snapshot()["url"].removesuffix("/v1")
    with pytest.raises(RuntimeError, match="llmservice up --allow-launch hf"):
        RESTfulClient(root).launch_model("acme/demo")
    with ollama.Client(root) as client, pytest.raises(ollama.ResponseError, match=r"gateway\.launch") as told:
        client.pull("acme/demo")
    assert told.value.status_code == 501
    assert "there is nothing to serve" in here.run("up", code=1)
    said = here.run("up", "-f", here.write(manifest("own")), "--allow-launch", "hf", "--host", "0.0.0.0", code=1)
    assert "Leave one of them out" in said
    assert "is none of hf" in here.run("up", "-f", "x.yaml", "--allow-launch", "pvc", code=2)
