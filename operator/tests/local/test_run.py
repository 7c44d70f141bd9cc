"""`llmservice run`: from a name to a conversation, on a terminal, from Ollama's store, beside others that do so."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ollama
import pytest
from machine_world import CLI, Here, Stream, Terminal, manifest, until  # type: ignore[import-not-found]
from ollama_world import DEMO, Store  # type: ignore[import-not-found]

ANSWER = "LLMService is a Kubernetes operator"
QUESTION = "What is LLMService?"
BUILT_IN = 11434
"""Ollama's port, which its clients know."""


@pytest.fixture
def alone(here: Here) -> Here:
    """A scripted engine, and no store of Ollama's."""
    here.env["OLLAMA_MODELS"] = str(here.folder / "none")
    here.env["LLMSERVICE_CACHE_DIR"] = str(here.folder / "cache")
    return here


def services(here: Here) -> dict[str, str]:
    """Name -> URI."""
    found = [entry["object"] for entry in here.snapshot()["services"]]
    return {one["metadata"]["name"]: one["spec"]["model"]["uri"] for one in found}


def test_runs_at_once_share_one_instance(alone: Here) -> None:
    """Of one model and of another, and none of them waits for the other's end."""
    (alone.folder / "other.gguf").write_bytes((alone.folder / "tiny.gguf").read_bytes())
    runs = [
        subprocess.Popen(
            [*CLI, "run", model, "Hi", "--port", "0"], env=alone.env, cwd=alone.folder, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for model in ("tiny.gguf", "./tiny.gguf", "other.gguf")
    ]  # fmt: skip
    for run in runs:
        said, errors = run.communicate(timeout=60)
        assert (run.returncode, said) == (0, "word0 word1 word2 \n"), errors
    assert services(alone) == {name: f"file://{alone.folder}/{name}.gguf" for name in ("tiny", "other")}


def test_a_run_joins_the_up_that_is_there_whatever_the_port(alone: Here) -> None:
    (alone.folder / "other.gguf").write_bytes((alone.folder / "tiny.gguf").read_bytes())
    with alone.foreground("-f", alone.write(manifest("demo")), "--port", "0") as up:
        alone.ready("demo")
        url = alone.snapshot()["url"]
        port = url.removesuffix("/v1").rpartition(":")[2]
        assert alone.run("run", "other.gguf", "Hi", "--port", port).startswith("word0 word1 word2 \n")
        assert alone.run("run", "demo", "Hi") == "word0 word1 word2 \n", "a service by its name"
        assert alone.run("run", "tiny.gguf", "Hi") == "word0 word1 word2 \n", "by the model that it serves"
        assert alone.snapshot()["url"] == url and set(services(alone)) == {"demo", "other"}
        assert up.poll() is None
    until(lambda: not alone.pids())


def test_a_port_that_another_program_has_is_told(alone: Here) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = alone.run("run", "tiny.gguf", "Hi", "--port", str(taken.getsockname()[1]), code=1)
    assert "in use by another program" in said and "--port N" in said
    assert not alone.pids()


def test_what_fails_is_told_and_leaves_nothing(alone: Here) -> None:
    (alone.folder / "bad.gguf").write_bytes(b"GGUF" + bytes(64))
    said = alone.run("run", "bad.gguf", "Hi", "--port", "0", code=1)
    assert "failed (UnsupportedFormat)" in said and "Use the little-endian one" in said
    until(lambda: not alone.pids())
    assert "there is no" in alone.run("run", "absent.gguf", "Hi", "--port", "0", code=1)
    assert "names no time" not in alone.run("run", "tiny.gguf", "--keepalive", "soon", code=2)


@pytest.mark.parametrize("name", ["demo", "tiny"])
def test_a_run_beside_a_down_of_the_same_model_serves_it_anew(alone: Here, name: str) -> None:
    """What is there until its last answers have run out is nothing that a run may count on, nor is its name taken."""
    alone.run("up", "-f", alone.write(manifest(name, drain=120, WORDS=3000, DELAY=0.1)), "--port", "0", "--detach")
    stream = Stream(alone.snapshot()["url"], name)
    down = subprocess.Popen([*CLI, "down", name], env=alone.env, stdout=subprocess.DEVNULL)
    until(lambda: alone.service(name)["stopping"])
    for words in (("run", name, "Hi"), ("stop", name)):
        assert f"default/{name} is being stopped." in alone.run(*words, code=1), "no model is called so"
    assert alone.run("run", "tiny.gguf", "Hi").startswith("word0 word1 word2 \n")
    assert alone.ready("tiny") and down.poll() is None and "[DONE]" not in stream.text, "and what ends is not cut off"
    alone.end()
    assert '"error"' in stream.whole() and down.wait(20) == 0, "it is told that it was cut off"


def test_a_closed_terminal_ends_the_conversation_and_not_the_service(alone: Here) -> None:
    terminal = Terminal(alone, "run", str(alone.folder / "tiny.gguf"), "--port", "0")
    terminal.wait_for(">>> ")
    terminal.type("hello\r")
    terminal.wait_for("word2")
    os.close(terminal.fd)
    terminal.process.wait(20)
    assert alone.ready("tiny")["replicas"][0]["ready"]
    assert (alone.state / "chat_history").read_text().endswith("hello\n")


def test_history_and_messages_of_several_lines(alone: Here) -> None:
    words = ("run", str(alone.folder / "tiny.gguf"), "--port", "0")
    terminal = Terminal(alone, *words)
    terminal.wait_for(">>> ")
    terminal.type("the first question\r")
    terminal.wait_for("word2")
    terminal.wait_for(">>> ")
    terminal.type('"""two\r')
    terminal.wait_for("... ")
    terminal.type('lines"""\r')
    terminal.wait_for("word2")
    terminal.wait_for(">>> ")
    terminal.type("\x03")
    terminal.wait_for("Ctrl-D or /bye leaves.")
    terminal.wait_for(">>> ")
    terminal.type("/bye\r")
    assert terminal.process.wait(20) == 0
    assert (alone.state / "chat_history").stat().st_mode & 0o777 == 0o600
    terminal = Terminal(alone, *words)
    terminal.wait_for(">>> ")
    terminal.type("\x1b[A\x1b[A\x1b[A\x1b[A")  # up, beyond /bye and the two lines
    terminal.wait_for("the first question")
    terminal.type("\r")
    terminal.wait_for("word2")
    terminal.wait_for(">>> ")
    terminal.type("\x04")
    assert terminal.process.wait(20) == 0 and "Traceback" not in terminal.seen


@pytest.fixture(scope="module")
def switcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Here, Store]]:
    """Somebody with models in Ollama's store, and the real engine."""
    here = Here(tmp_path_factory.mktemp("switcher"), None)
    store = Store(here.folder / "models")
    store.keep("registry.ollama.ai/library/tinyllama/1.1b", model=DEMO.read_bytes(), system=b"You are kind.")
    here.env |= {"OLLAMA_MODELS": str(store.folder), "LLMSERVICE_CACHE_DIR": str(here.folder / "cache")}
    with Path(tempfile.gettempdir(), f"llmservice-{os.getuid()}-{BUILT_IN}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield here, store
        here.end()


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.engine
@pytest.mark.xdist_group("Ollama's port")
def test_a_model_of_ollamas_is_served_from_its_store_to_its_own_client(switcher: tuple[Here, Store]) -> None:
    """By the name that it has there; it leaves memory, and comes back when it is asked."""
    here, store = switcher
    before = store.listing()
    port = BUILT_IN if is_free(BUILT_IN) else 0
    terminal = Terminal(here, "run", "tinyllama:1.1b", "--keepalive", "1s", "--port", str(port))
    terminal.wait_for(">>> ")
    assert "its system message holds in this conversation" in terminal.seen
    terminal.type("/set system\r")
    terminal.wait_for("You are kind.")
    terminal.type('/set system ""\r')
    terminal.wait_for(">>> ")
    terminal.type("/clear\r")
    terminal.wait_for(">>> ")
    terminal.type(f"{QUESTION}\r")
    terminal.wait_for(ANSWER)
    terminal.type("/show info\r")
    terminal.wait_for("Q4_K_M")
    terminal.type("/bye\r")
    assert terminal.process.wait(20) == 0
    (row,) = (line for line in here.run("models").splitlines() if line.startswith("tinyllama:1.1b"))
    assert row.endswith("default/tinyllama-1-1b")

    def left() -> bool:
        return bool(here.service("tinyllama-1-1b")["object"]["status"]["readyReplicas"] == 0)

    until(left)
    url = here.snapshot()["url"].removesuffix("/v1")
    with ollama.Client() if port else ollama.Client(url) as client:
        assert "tinyllama:1.1b" in [model.model for model in client.list().models]
        answer = client.chat("tinyllama:1.1b", [{"role": "user", "content": QUESTION}], options={"temperature": 0})
        assert (answer.message.content or "").startswith(ANSWER), "it came back by the name that it has at Ollama's"
    assert here.run("chat", "tinyllama:1.1b", "--prompt", QUESTION, "--system", "").startswith(ANSWER)
    assert here.run("run", "tinyllama:1.1b", QUESTION, "--verbose").count("tokens") >= 2
    until(left)
    assert "had left memory already" in here.run("stop", "tinyllama-1-1b")
    assert store.listing() == before, "nothing of Ollama's was changed"
    (link,) = (here.folder / "cache/ollama").rglob("*.gguf")
    assert link.resolve().parent == store.folder / "blobs", "and nothing was copied"
    old = link.resolve()
    newer = store.keep("registry.ollama.ai/library/tinyllama/1.1b", model=DEMO.read_bytes() + b"newer")
    old.unlink()  # as Ollama does, when it has pulled another
    with ollama.Client(url) as client:
        answer = client.chat("tinyllama:1.1b", [{"role": "user", "content": QUESTION}], options={"temperature": 0})
    assert (answer.message.content or "").startswith(ANSWER) and link.resolve() == store.blob_path(newer["model"])
    newest = store.keep("registry.ollama.ai/library/tinyllama/1.1b", model=DEMO.read_bytes() + b"newest")
    said = here.run("chat", "tinyllama:1.1b", "--prompt", QUESTION, "--system", "")
    assert ANSWER in said and "`llmservice run tinyllama:1.1b` serves it" in said
    said = here.run("run", "tinyllama:1.1b", QUESTION)
    assert "Ollama has pulled another version" in said and link.resolve() == store.blob_path(newest["model"])
    model = here.service("tinyllama-1-1b")["object"]["status"]["model"]
    assert model["resolvedRevision"] == link.resolve().name, "and it is planned anew"
    assert "another version" not in here.run("run", "tinyllama:1.1b", QUESTION)


@pytest.mark.engine
@pytest.mark.xdist_group("Ollama's port")
def test_stop_takes_a_model_out_of_memory_and_the_next_question_brings_it_back(switcher: tuple[Here, Store]) -> None:
    here, _ = switcher
    here.run("run", str(DEMO), QUESTION, "--name", "kept", "--keepalive", "1h", "--port", "0")
    here.ready("kept")
    assert "default/kept: leaves memory" in here.run("stop", "kept")
    until(lambda: not here.service("kept")["replicas"])
    row = next(line for line in here.run("ps").splitlines() if "default/kept" in line)
    assert "Idle: It was stopped; a request waits and starts it." in row
    assert here.run("chat", "kept", "--prompt", QUESTION).startswith(ANSWER)
    here.run("run", str(DEMO), QUESTION, "--name", "stays", "--keepalive", "-1")
    assert "llmservice down default/stays ends it" in here.run("stop", "stays", code=1)
    assert "there is no service `nobody`" in here.run("stop", "nobody", code=1)


def test_an_interrupt_while_the_model_loads_ends_the_command_alone(alone: Here) -> None:
    hold = alone.folder / "hold"
    alone.env["HOLD"] = str(hold)
    process = subprocess.Popen(
        [*CLI, "run", "tiny.gguf", "Hi", "--port", "0"], env=alone.env, cwd=alone.folder, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("default/tiny: loading"):
            break
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in errors and said == ""
    hold.touch()
    alone.ready("tiny")
    assert alone.run("run", "tiny.gguf", "Hi") == "word0 word1 word2 \n"
