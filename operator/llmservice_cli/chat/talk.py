"""The conversation itself: question by question on a terminal, or one question and its answer."""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from llmservice_cli.chat.asking import Chat, Piece
from llmservice_cli.chat.lines import FILE, Lines
from llmservice_cli.chat.modelfile import of_service, take_over
from llmservice_cli.chat.session import Session
from llmservice_cli.chat.slash import World, slash
from llmservice_cli.commands.ps import find, full_name, listed
from llmservice_cli.local.client import Control
from llmservice_cli.ollama.links import newer
from llmservice_cli.places import Places
from llmservice_cli.told import tell
from llmservice_cli.waiting import Waiting
from llmservice_runtime.contract.bounds import POOLED
from llmservice_runtime.contract.errors import UserError

LEAVE = "Ctrl-D or /bye leaves."
MEASURED_SECONDS = 0.1
"""An answer that comes in less than that, perhaps in one piece, says nothing of the speed."""


def talk(places: Places, session: Session, prompt: str | None, load: Callable[[str], str]) -> int:
    """0 in the end; UserError when the one question (`prompt`, else standard input that is no terminal) got no whole
    answer. `load` serves another model, and gives its service's name."""
    control = Control(places.state)
    now = control.snapshot()
    _must_answer(find(now, session.model))
    chat = Chat(now["url"])
    brought = functools.partial(_brought, control, places.cache)
    for sentence in brought(session):
        print(sentence, file=sys.stderr)
    if prompt is None and sys.stdin.isatty():
        if not any(facts["ready"] for facts in find(now, session.model)["replicas"]):
            threading.Thread(target=chat.wake, args=(session.model,), daemon=True, name="wake").start()
        lines = Lines(places.state / FILE)
        world = World(
            load=load,
            brought=brought,
            info=lambda name: _info(control, name),
            services=lambda: listed(control.snapshot()),
            keep_history=lines.keep_history,
        )
        return _converse(chat, session, control, lines, world)
    prompt = sys.stdin.read() if prompt is None else prompt
    if not prompt.strip():
        raise UserError("there is no question.", "Give one on the command line, or on standard input.")
    _ask(chat, session, prompt.strip(), control)
    return 0


def ended(code: int) -> int:
    """The code, unless something is still being downloaded: that would keep the process until its end, and is continued
    next time."""
    prepare = sys.modules.get("llmservice_cli.local.prepare")
    if prepare is not None and prepare.preparing():
        sys.stdout.flush()
        os._exit(code)
    return code


def _converse(chat: Chat, session: Session, control: Control, lines: Lines, world: World) -> int:
    """Until /bye or the end of input. A failed question is told and may be asked again."""
    print("/? for help.")
    while True:
        try:
            question = lines.read()
        except KeyboardInterrupt:
            print(f"\n{LEAVE}")
            continue
        try:
            if question is None:
                print()
                return 0
            if question.startswith("/"):
                said = slash(session, question, world)
                if said is None:
                    return 0
                print(said)
            elif question:
                _ask(chat, session, question, control)
        except KeyboardInterrupt:
            print()
        except UserError as error:
            tell(error)


def _ask(chat: Chat, session: Session, question: str, control: Control) -> None:
    """One turn, which the session remembers unless it failed."""
    began = time.monotonic()
    shown = Shown()
    show(chat.ask(session.asked(question)), Waiting(control, session.model), shown)
    session.answered(question, shown.text)
    if session.verbose:
        print(figures(shown, began), file=sys.stderr)


class Shown:
    """What came of an answer, and when."""

    def __init__(self) -> None:
        self.text = ""
        self.thinks = False
        self.first = 0.0
        """time.monotonic() of its first piece; 0 = none came."""
        self.usage: dict[str, Any] = {}


def show(pieces: Iterator[Piece], waiting: Waiting, shown: Shown) -> None:
    """Print an answer while it comes, and before that what it waits for, until it ends or Ctrl-C stops it. Thoughts go
    to standard error: the answer alone can be kept."""
    waiting.begin()
    try:
        for piece in pieces:
            if not shown.first:
                waiting.end()
                shown.first = time.monotonic()
            _show_piece(piece, shown)
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
    finally:
        waiting.end()
        if shown.thinks:
            print(file=sys.stderr)
        if shown.text:
            print(flush=True)


def _show_piece(piece: Piece, shown: Shown) -> None:
    if piece.usage is not None:
        shown.usage = piece.usage
    if piece.thinking:
        print("" if shown.thinks else "Thinking...\n", piece.thinking, sep="", end="", flush=True, file=sys.stderr)
        shown.thinks = True
    if piece.text:
        if shown.thinks:
            print("\n...done thinking.\n", file=sys.stderr, flush=True)
            shown.thinks = False
        shown.text += piece.text
        print(piece.text, end="", flush=True)


def figures(shown: Shown, began: float) -> str:
    """How long an answer took; `began` by time.monotonic()."""
    now = time.monotonic()
    first = shown.first or now
    tokens = shown.usage.get("completion_tokens", 0)
    rows = [
        ("total duration", f"{now - began:.2f} s"),
        ("until the first piece", f"{first - began:.2f} s"),
        ("prompt", f"{shown.usage.get('prompt_tokens', '?')} tokens"),
        ("answer", f"{tokens or '?'} tokens"),
    ]
    if tokens > 1 and now - first >= MEASURED_SECONDS:
        rows.append(("speed", f"{(tokens - 1) / (now - first):.1f} tokens/s"))
    return "\n" + "\n".join(f"{name + ':':<24}{value}" for name, value in rows)


def _brought(control: Control, cache: Path, session: Session) -> list[str]:
    """What the session takes of the model that its service has; and whether Ollama has a newer version of it."""
    entry = find(control.snapshot(), session.model)
    model = of_service(entry["object"]["spec"]["model"]["uri"], cache)
    if model is None:
        return []
    name = model.name.shown
    said = f"{name}: Ollama has pulled another version than what is planned here; `llmservice run {name}` serves it."
    return [*([said] if newer(entry, cache) else ()), *take_over(session, model)]


def _must_answer(entry: dict[str, Any]) -> None:
    """UserError for a model that makes vectors or scores."""
    task = (entry["object"]["status"].get("plan") or {}).get("task")
    if task in POOLED:
        what = "scores" if task == "Rerank" else "vectors"
        raise UserError(
            f"{full_name(entry)} makes {what}, and no answers.",
            f"llmservice ps --snippets {full_name(entry)} shows how to ask it.",
        )


def _info(control: Control, name: str) -> str:
    entry = find(control.snapshot(), name)
    status = entry["object"]["status"]
    model, plan = status.get("model") or {}, status.get("plan") or {}
    rows = {
        "service": full_name(entry),
        "model": entry["object"]["spec"]["model"]["uri"],
        "architecture": model.get("architecture"),
        "parameters": model.get("parameters"),
        "quantization": model.get("quantization"),
        "engine": plan.get("summary") or plan.get("engine"),
        "url": status["url"],
    }
    return "\n".join(f"{key:<14}{value}" for key, value in rows.items() if value)
