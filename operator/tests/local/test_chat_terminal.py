"""`llmservice chat` on a terminal."""

from __future__ import annotations

import subprocess

from machine_world import CLI, Here, Terminal, manifest  # type: ignore[import-not-found]

from llmservice_cli.waiting import waits_for


def test_ctrl_c_stops_an_answer_and_the_conversation_goes_on(running: Here) -> None:
    running.up(manifest("slow", WORDS=200, DELAY=0.05))
    terminal = Terminal(running, "chat", "slow")
    terminal.wait_for("> ")
    terminal.type("hello\r")
    terminal.wait_for("word2")
    terminal.type("\x03")
    terminal.wait_for("> ")
    terminal.type("again\r")
    terminal.wait_for("word0")
    terminal.type("\x03")
    terminal.wait_for("> ")
    terminal.type("/exit\r")
    assert terminal.process.wait(10) == 0
    assert "Traceback" not in terminal.seen
    assert running.ready("slow")["replicas"][0]["ready"]


def test_what_a_question_waits_for_is_said_until_its_answer_begins(here: Here) -> None:
    go = here.folder / "go"
    here.run("up", "-f", here.write(manifest("cold", HOLD=go)), "--port", "0", "--detach", "--timeout", "1", code=None)
    asked = subprocess.Popen(
        [*CLI, "chat", "cold", "--prompt", "x"], env=here.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert asked.stdout is not None and asked.stderr is not None
    assert asked.stderr.readline().startswith("default/cold: The model is being loaded (Loading 50 %).")
    terminal = Terminal(here, "chat", "cold", "--prompt", "x")
    terminal.wait_for("\x1b[Kdefault/cold: The model is being loaded (Loading 50 %).")
    go.touch()
    terminal.wait_for("\r\x1b[Kword0")  # in the place of what was waited for
    assert terminal.process.wait(20) == 0
    assert asked.communicate(timeout=20)[0] == "word0 word1 word2 \n"


def test_how_long_it_takes_is_known_from_the_last_time() -> None:
    facts = {"ready": False, "eta": 12}
    loading = {"type": "Ready", "status": "False", "reason": "Loading", "message": "The model is being loaded."}
    conditions = [loading, {**loading, "type": "Progressing"}]
    entry = {"object": {"status": {"conditions": conditions}}, "replicas": [facts, {"ready": False, "eta": None}]}
    assert waits_for(entry)[1] == "The model is being loaded. It is ready in about 12 s."
    assert waits_for({**entry, "replicas": [{**facts, "ready": True}]}) == ("", "")
