"""`llmservice chat` on a terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time

from machine_world import CLI, Here, manifest  # type: ignore[import-not-found]


class Terminal:
    def __init__(self, here: Here, *words: str) -> None:
        self.fd, child = pty.openpty()
        self.process = subprocess.Popen(
            [*CLI, *words], env=here.env, stdin=child, stdout=child, stderr=child, start_new_session=True,
            preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
        )  # fmt: skip
        os.close(child)
        self.seen = ""

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + 20
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            if select.select([self.fd], [], [], 0.5)[0]:
                self.seen += os.read(self.fd, 4096).decode(errors="replace")

    def type(self, text: str) -> None:
        self.seen = ""
        os.write(self.fd, text.encode())


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
