"""A scripted engine: the protocol's faults on demand, which no real engine shows when asked to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from llmservice_runtime.openai.app import make_app
from llmservice_runtime.openai.metrics import EngineMetrics
from llmservice_runtime.openai.state import Server
from llmservice_runtime.protocol.engine import (
    Delta,
    FinishReason,
    GenerationRequest,
    Grammar,
    GrammarError,
    TokenLogprob,
)
from llmservice_runtime.protocol.pictures import Eyes
from llmservice_runtime.wire.server import ApiRunner

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HERMES = (
    "{% if tools %}{% for t in tools %}{{ t | tojson }}{% endfor %}Answer with <tool_call> json </tool_call>{% endif %}"
    + CHATML.replace(
        "{{ m.content }}",
        "{{ m.content }}{% for c in m.tool_calls %}\n<tool_call>\n"
        '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}',
    )
)


class ByteTokenizer:
    """Token = byte; 256 is begin, 257 is end of text."""

    vocab_size = 258
    bos_token = "<s>"
    eos_token = "</s>"
    end_tokens = frozenset({257})

    def __init__(self, chat_template: str | None = CHATML, tool_template: str | None = None) -> None:
        self.chat_template = chat_template
        self.tool_template = tool_template

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        return [256] * add_special + list(text.encode())

    def at_least(self, text: str) -> int:
        return len(text)

    def parts(self, text: str, *, add_special: bool, parse_special: bool) -> Iterator[list[int]]:
        yield self.encode(text, add_special=add_special, parse_special=parse_special)

    def decode(self, tokens: Sequence[int], *, skip_special: bool = True) -> str:
        return bytes(t for t in tokens if t < 256).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else b""


@dataclass
class ScriptedEngine:
    """Says `pieces` to every request, one delta each. An exception among them is raised, an Event is awaited."""

    pieces: Sequence[str | Delta | Exception | asyncio.Event] = ("Hello", " world")
    finish: FinishReason = FinishReason.STOP
    tokenizer: ByteTokenizer = field(default_factory=ByteTokenizer)
    context_tokens: int = 512
    vocab_size: int = 258
    max_answers: int = 128
    refuse: Exception | None = None
    bad_grammar: str = ""
    requests: list[GenerationRequest] = field(default_factory=list)
    running: int = 0
    starts: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def submit(self, request: GenerationRequest) -> AsyncIterator[Delta]:
        if self.refuse is not None:
            raise self.refuse
        self.requests.append(request)
        return self._generate(request)

    async def _generate(self, request: GenerationRequest) -> AsyncIterator[Delta]:
        self.running += 1
        self.starts.put_nowait(request.request_id)
        try:
            wanted = request.params.logprobs
            for piece in self.pieces:
                if isinstance(piece, asyncio.Event):
                    await piece.wait()
                elif isinstance(piece, Exception):
                    raise piece
                elif isinstance(piece, Delta):
                    yield piece
                else:
                    for index in range(request.n):
                        raw = piece.encode()
                        logprobs = None if wanted is None else [_logprob(raw, wanted)]
                        prompt = [None, *(_logprob(bytes([t]), 1) for t in request.prompt_tokens[1:])]
                        first = piece is self.pieces[0] and request.prompt_logprobs
                        yield Delta(
                            index, piece, [1], logprobs, cached_tokens=2, prompt_logprobs=prompt if first else None
                        )
                        await asyncio.sleep(0)
            for index in range(request.n):
                yield Delta(index, "", [], finish_reason=self.finish)
        finally:
            self.running -= 1
            self.ended.set()

    @property
    def eyes(self) -> Eyes | None:
        return None

    async def validate_grammar(self, grammar: Grammar) -> None:
        if self.bad_grammar:
            raise GrammarError(self.bad_grammar)


def _logprob(raw: bytes, top: int) -> TokenLogprob:
    return TokenLogprob(raw[0], raw, -0.5, tuple((raw[0], raw, -0.5) for _ in range(min(top, 1))))


class _Server(TestServer):
    """aiohttp's test server over the runner that serves us elsewhere."""

    async def _make_runner(self, **options: Any) -> ApiRunner:
        return ApiRunner(self.app, **options)


Connect = Callable[..., Awaitable[TestClient[Any, Any]]]


@pytest.fixture
def scripted() -> type[ScriptedEngine]:
    return ScriptedEngine


@pytest.fixture
def tokenizer() -> type[ByteTokenizer]:
    return ByteTokenizer


@pytest.fixture(scope="session")
def templates() -> dict[str, str]:
    return {"chatml": CHATML, "hermes": HERMES}


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """connect(engine, **fields of Server) -> a client; `client.app_server` is the Server."""
    clients: list[TestClient[Any, Any]] = []

    async def start(engine: ScriptedEngine | None, **fields: Any) -> TestClient[Any, Any]:
        values = {"model_name": "demo", "context_tokens": 512, "metrics": EngineMetrics("demo"), **fields}
        server = Server(**values)
        if engine is not None:
            server.serve(engine)
        http = _Server(make_app(server))
        await http.start_server(shutdown_timeout=0.1)  # aiohttp tests with handler_cancellation
        client = TestClient(http)
        clients.append(client)
        client.app_server = server  # type: ignore[attr-defined]
        return client

    yield start
    for client in clients:
        await client.close()


@pytest.fixture
def events() -> Callable[[bytes], list[bytes]]:
    """The events of a stream's bytes, after checking what holds for every stream."""

    def split(raw: bytes) -> list[bytes]:
        assert b"\r" not in raw
        assert raw.endswith(b"\n\n")
        found = raw.split(b"\n\n")[:-1]
        for event in found:
            assert event.startswith((b"data: ", b":")), event
            assert b"\n" not in event
        return [event.removeprefix(b"data: ") for event in found if not event.startswith(b":")]

    return split
