"""Processes that may be lost: who asks them next gets an answer, and gets his own."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmservice_runtime.openai.asking import BusyError, ask_idle
from llmservice_runtime.openai.worker import KilledError, LostError, Worker

TEMPLATE = {"source": "{{ x }}{% if x == 'on' %}{% for i in range(y) %}{% set z = i %}{% endfor %}{% endif %}"}


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker("llmservice_runtime.openai.rendering")
    yield made
    made.close()


def question(x: str, y: int = 0) -> dict[str, Any]:
    return {"variables": {"x": x, "y": y}, "seconds": 60.0}


def pid(worker: Worker) -> int:
    assert worker._process is not None
    return worker._process.pid


async def test_an_idle_process_is_asked_on_the_loop(worker: Worker) -> None:
    with pytest.raises(BusyError):
        await ask_idle(worker, question("a"), 60, TEMPLATE)
    assert worker.ask(question("a"), 60, TEMPLATE) == {"text": "a"}
    assert await ask_idle(worker, question("b"), 60, TEMPLATE) == {"text": "b"}
    assert worker.ask(question("c"), 60, TEMPLATE) == {"text": "c"}  # and both ways take turns
    with pytest.raises(BusyError):
        await ask_idle(worker, question("d"), 60, dict(TEMPLATE))  # another template


async def test_the_answer_to_one_who_left_is_nobody_elses(worker: Worker) -> None:
    worker.ask(question("a"), 60, TEMPLATE)
    left = asyncio.ensure_future(ask_idle(worker, question("on", 99_999), 60, TEMPLATE))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)
    with pytest.raises(BusyError):
        await ask_idle(worker, question("b"), 60, TEMPLATE)
    before = pid(worker)
    assert await asyncio.to_thread(worker.ask, question("c"), 60, TEMPLATE) == {"text": "c"}
    assert pid(worker) == before


def test_a_loop_that_ends_leaves_no_answer_behind(worker: Worker) -> None:
    worker.ask(question("a"), 60, TEMPLATE)

    async def leave() -> None:
        asked = asyncio.ensure_future(ask_idle(worker, question("on", 99_999), 60, TEMPLATE))
        await asyncio.sleep(0)
        asked.cancel()

    asyncio.run(leave())
    assert worker.ask(question("b"), 60, TEMPLATE) == {"text": "b"}


async def test_a_process_killed_from_outside_is_replaced(worker: Worker) -> None:
    worker.ask(question("a"), 60, TEMPLATE)
    os.kill(pid(worker), signal.SIGKILL)
    assert worker.ask(question("b"), 60, TEMPLATE) == {"text": "b"}
    os.kill(pid(worker), signal.SIGKILL)
    with pytest.raises(BusyError):
        await ask_idle(worker, question("c"), 60, TEMPLATE)
    assert worker.ask(question("c"), 60, TEMPLATE) == {"text": "c"}


async def test_what_takes_too_long_is_not_asked_again(worker: Worker) -> None:
    endless = {
        "source": "{% for i in range(99999) %}{% for j in range(99999) %}{% set z = i %}{% endfor %}{% endfor %}"
    }
    worker.ask(endless, 60)
    worker._told = endless
    with pytest.raises(LostError, match=r"took more than 0\.5 s"):
        await ask_idle(worker, question("a"), 0.5, endless)
    assert worker.ask(question("b"), 60, TEMPLATE) == {"text": "b"}


HUNGRY = """
from pathlib import Path
from llmservice_runtime.openai import worker
worker.CGROUP = Path({folder!r})
worker.serve(lambda mebibytes: len(bytearray(mebibytes << 20)))
"""


def test_a_question_never_fills_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one process takes too much the kernel may end all of them: half of what is left is the most."""
    (tmp_path / "hungry.py").write_text(HUNGRY.format(folder=str(tmp_path)))
    (tmp_path / "memory.max").write_text(f"{1000 << 20}\n")
    (tmp_path / "memory.stat").write_text(f"anon 1\ninactive_file {20 << 20}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    hungry = Worker("hungry")
    (tmp_path / "memory.current").write_text(f"{900 << 20}\n")
    assert hungry.ask(30, 60) == 30 << 20
    with pytest.raises(KilledError, match="found no memory left"):
        hungry.ask(100, 60)
    (tmp_path / "memory.current").write_text(f"{100 << 20}\n")
    assert hungry.ask(100, 60) == 100 << 20
    with pytest.raises(LostError, match="took more memory than it may"):
        hungry.ask(400, 60)
    (tmp_path / "memory.max").write_text("max\n")
    assert hungry.ask(100, 60) == 100 << 20
    hungry.close()


async def test_a_process_that_is_stopped_is_replaced(worker: Worker) -> None:
    worker.ask(question("a"), 60, TEMPLATE)
    before = pid(worker)
    os.kill(before, signal.SIGSTOP)
    with pytest.raises(BusyError):  # who asked on the loop asks another one
        await ask_idle(worker, question("b"), 0.5, TEMPLATE)
    assert worker.ask(question("b"), 60, TEMPLATE) == {"text": "b"}
    assert pid(worker) != before


def test_modules_do_not_come_from_the_folder_it_runs_in(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jinja2.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    assert worker.ask(question("a"), 60, TEMPLATE) == {"text": "a"}
