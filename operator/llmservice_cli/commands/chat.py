"""`llmservice chat`: talk to a service in the terminal; answers stream, Ctrl-C stops one, /exit leaves."""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from llmservice_cli.commands.ps import find, full_name
from llmservice_cli.local.client import Control
from llmservice_cli.places import Places
from llmservice_cli.waiting import Waiting
from llmservice_runtime.contract.errors import UserError

Messages = list[dict[str, str]]


def configure(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument("name", help="service: NAME or NAMESPACE/NAME")
    parser.add_argument("--system", metavar="TEXT", help="system message")
    parser.add_argument("--prompt", metavar="TEXT", help="ask this one thing, print the answer, end")
    parser.add_argument(
        "--temperature", type=float, default=0.0, metavar="T", help="0 = always the likeliest answer (default)"
    )


def run(args: argparse.Namespace) -> int:
    """0; UserError when the (one-shot) question got no whole answer."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it stops an answer, and leaves at the prompt
    control = Control(Places.from_environment().state)
    now = control.snapshot()
    name = full_name(find(now, args.name))
    chat, waiting = Chat(now["url"], name, args.temperature), Waiting(control, name)
    messages: Messages = [{"role": "system", "content": args.system}] if args.system else []
    if args.prompt is None and sys.stdin.isatty():
        return converse(chat, messages, waiting)
    prompt = sys.stdin.read() if args.prompt is None else args.prompt
    if not prompt.strip():
        raise UserError("there is no question.", "Give one with --prompt TEXT, or on standard input.")
    show(chat.ask([*messages, {"role": "user", "content": prompt.strip()}]), waiting)
    return 0


class Chat:
    """One service behind an OpenAI base URL."""

    def __init__(self, url: str, model: str, temperature: float) -> None:
        self._url = urlsplit(url)
        self._model = model
        self._temperature = temperature

    def ask(self, messages: Messages) -> Iterator[str]:
        """Pieces of the answer as they come. UserError when it fails, also in the middle."""
        body = {"model": self._model, "messages": messages, "stream": True, "temperature": self._temperature}
        connection = http.client.HTTPConnection(self._url.netloc)
        try:
            connection.request(
                "POST", f"{self._url.path}/chat/completions", json.dumps(body), {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            if answer.status != 200:
                raise UserError(_message(answer.read()))
            yield from _pieces(answer)
        except (OSError, http.client.HTTPException) as error:
            raise UserError(
                f"the connection to {self._url.netloc} broke: {error}.", "`llmservice ps` says why."
            ) from None
        finally:
            connection.close()  # the service stops generating when it sees this


def converse(chat: Chat, messages: Messages, waiting: Waiting) -> int:
    """Question by question until /exit or the end of input. A failed question is told and may be asked again."""
    import readline  # noqa: F401 - line editing and history of input()

    print("Ctrl-C stops an answer, /exit leaves.")
    while True:
        try:
            question = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return 0
        if question == "/exit":
            return 0
        if not question:
            continue
        messages.append({"role": "user", "content": question})
        try:
            messages.append({"role": "assistant", "content": show(chat.ask(messages), waiting)})
        except UserError as error:
            messages.pop()
            print(f"error: {error}", file=sys.stderr)


def show(pieces: Iterator[str], waiting: Waiting) -> str:
    """Print an answer while it comes, and before that what it waits for; what came until it ended or Ctrl-C stopped
    it."""
    said: list[str] = []
    waiting.begin()
    try:
        for piece in pieces:
            if not said:
                waiting.end()
            said.append(piece)
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
    finally:
        waiting.end()
        if said:
            print(flush=True)
    return "".join(said)


def _pieces(answer: http.client.HTTPResponse) -> Iterator[str]:
    """The texts of a stream of chunks."""
    for line in answer:
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        chunk: dict[str, Any] = json.loads(data)
        if "error" in chunk:
            raise UserError(_message(data))
        for choice in chunk["choices"]:
            if text := choice["delta"].get("content"):
                yield text
    raise UserError("the answer broke off.", "Ask again; `llmservice ps` shows whether the service still runs.")


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:300].decode(errors="replace")
