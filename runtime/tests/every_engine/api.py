"""A client of one replica: requests as bytes and as openai-python sends them."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from protocol_checks import Served  # type: ignore[import-not-found]

from .engines import CONTEXT, NAME

QUESTION, ANSWER = "What is the capital of Finland?", "The capital of Finland is Helsinki."
MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": QUESTION}]
CHAT, TEXT, TOKENIZE, DETOKENIZE = "/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize"
SECONDS = 120
"""A busy machine may take long; nothing here hangs for ever."""


@dataclass(frozen=True)
class Reply:
    """One answer: status, headers in lower case, body."""

    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        """The JSON."""
        return json.loads(self.raw)

    @property
    def error(self) -> dict[str, Any]:
        """The error, whole: every one has a message, a type, a code and a param."""
        assert self.headers["content-type"].startswith("application/json"), self.raw
        error: dict[str, Any] = self.body["error"]
        assert error.keys() == {"message", "type", "code", "param"}, error
        assert isinstance(error["message"], str) and error["message"], error
        assert isinstance(error["type"], str) and isinstance(error["code"], str), error
        return error

    @property
    def events(self) -> list[str]:
        """What a stream said, comments left out."""
        assert self.headers["content-type"].startswith("text/event-stream"), self.headers
        return events(self.raw)

    @property
    def chunks(self) -> list[dict[str, Any]]:
        """The JSON of a stream that ended well."""
        found = self.events
        assert found[-1] == "[DONE]", found[-3:]
        return [json.loads(event) for event in found[:-1]]


class Api:
    """Speaks to one replica."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.served = Served(url, NAME, CONTEXT)

    def send(self, path: str, body: Any = None, method: str = "", **headers: str) -> Reply:
        """One request, its whole answer."""
        with self.open(path, body, method, **headers) as answer:
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    @contextmanager
    def begun(self, path: str, body: Any) -> Iterator[None]:
        """A request that nobody waits for; the client hangs up at the end."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=SECONDS)
        connection.request("POST", path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        try:
            yield
        finally:
            connection.close()

    @contextmanager
    def connected(self, sent: bytes) -> Iterator[socket.socket]:
        """A connection with bytes that are sent as they are."""
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port)), timeout=SECONDS) as connection:
            connection.sendall(sent)
            yield connection

    def open(self, path: str, body: Any = None, method: str = "", **headers: str) -> http.client.HTTPResponse:
        """One request on a connection of its own; the answer as it comes. Closing it hangs up."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=SECONDS)
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        method = method or ("GET" if data is None else "POST")
        connection.request(method, path, data, {"Content-Type": "application/json", "Connection": "close", **headers})
        return connection.getresponse()

    def chat(self, **fields: Any) -> Any:
        """The body of a greedy chat that succeeded."""
        return self._ok(CHAT, {"model": NAME, "messages": MESSAGES, "temperature": 0, **fields})

    def say(self, **fields: Any) -> str:
        """Its text."""
        text: str = self.chat(**fields)["choices"][0]["message"]["content"]
        return text

    def complete(self, **fields: Any) -> Any:
        """The body of a greedy completion that succeeded."""
        return self._ok(TEXT, {"model": NAME, "prompt": "What is", "temperature": 0, **fields})

    def chunks(self, path: str = CHAT, **fields: Any) -> list[dict[str, Any]]:
        """The chunks of a greedy stream that succeeded."""
        asked = {"messages": MESSAGES} if path == CHAT else {"prompt": "What is"}
        reply = self.send(path, {"model": NAME, **asked, "temperature": 0, "stream": True, **fields})
        assert reply.status == 200, reply.raw
        return reply.chunks

    def tokens(self, text: str) -> list[int]:
        """Ids of a text, without special tokens."""
        ids: list[int] = self._ok(TOKENIZE, {"model": NAME, "prompt": text, "add_special_tokens": False})["tokens"]
        return ids

    def refused(self, path: str, body: Any, status: int = 400) -> dict[str, Any]:
        """The error of a request that must fail."""
        reply = self.send(path, body)
        assert reply.status == status, (reply.status, reply.raw[:500])
        return reply.error

    def endless(self, **fields: Any) -> http.client.HTTPResponse:
        """A stream that does not end by itself for long, after its first event."""
        body = {"model": NAME, "messages": MESSAGES, "stream": True, "ignore_eos": True, "temperature": 0, **fields}
        answer = self.open(CHAT, body)
        assert answer.status == 200, answer.read()
        while not answer.readline().startswith(b"data: "):
            pass
        return answer

    def metrics(self) -> Metrics:
        """What /metrics says now."""
        return Metrics(self.send("/metrics").raw.decode())

    def _ok(self, path: str, body: Any) -> Any:
        reply = self.send(path, body)
        assert reply.status == 200, (reply.status, reply.raw[:1000])
        return reply.body


class Metrics:
    """Samples of Prometheus text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._samples: list[tuple[str, str, float]] = [
            (found[1], found[2] or "", float(found[3]))
            for found in re.finditer(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE)
        ]

    @property
    def names(self) -> set[str]:
        """Of all samples."""
        return {name for name, _, _ in self._samples}

    def value(self, name: str, *labels: str) -> float:
        """The sum of the samples whose labels have all of `labels` (`reason="stop"`)."""
        found = [
            value for known, text, value in self._samples if known == name and all(label in text for label in labels)
        ]
        assert found or labels, f"no sample of {name}"
        return sum(found)


def events(raw: bytes) -> list[str]:
    """The data of a stream's events, after checking what holds for every stream."""
    assert b"\r" not in raw
    assert raw.endswith(b"\n\n"), raw[-200:]
    found = raw.decode().split("\n\n")[:-1]
    for event in found:
        assert event.startswith(("data: ", ":")) and "\n" not in event, event
    return [event.removeprefix("data: ") for event in found if not event.startswith(":")]


def text_of(chunks: Sequence[dict[str, Any]], index: int = 0) -> str:
    """The text of one choice of a stream."""
    return "".join(
        choice["text"] if "text" in choice else choice["delta"].get("content") or ""
        for chunk in chunks
        for choice in chunk["choices"]
        if choice["index"] == index
    )


def until_the_end(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """The lines that are left of a stream; a connection that breaks ends it too."""
    try:
        yield from answer
    except (http.client.HTTPException, ConnectionError):
        return
