"""A model whose logits are a row of a table: the last byte's."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from llmservice_runtime.engines.toy.definition import parse_args

from llmservice_runtime.contract.memory import HOST, HeldLine, Part
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.generation.answers import Answer
from llmservice_runtime.generation.arrays import Floats
from llmservice_runtime.generation.draw import Desk
from llmservice_runtime.generation.grammar import GrammarCompiler
from llmservice_runtime.generation.sampler import NoTokenError
from llmservice_runtime.generation.stream import Stream
from llmservice_runtime.openai.metrics import EngineMetrics, EngineStats
from llmservice_runtime.protocol.engine import Delta, FinishReason, GenerationRequest, Grammar, QueueFullError

BEGIN, END = 256, 257


class Bytes:
    """Token = byte; 256 begins a text, 257 ends it."""

    vocab_size = 258
    bos, eos = BEGIN, END
    bos_token, eos_token = "<s>", "</s>"
    end_tokens = frozenset({END})
    special_tokens = frozenset({BEGIN, END})

    def __init__(self, chat_template: str) -> None:
        self.chat_template = chat_template
        self.tool_template = None

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        return [BEGIN] * add_special + list(text.encode())

    def at_least(self, text: str) -> int:
        return len(text)

    def parts(self, text: str, *, add_special: bool, parse_special: bool) -> Iterator[list[int]]:
        yield self.encode(text, add_special=add_special, parse_special=parse_special)

    def decode(self, tokens: Sequence[int], *, skip_special: bool = True) -> str:
        return b"".join(map(self.token_bytes, tokens)).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        return bytes([token]) if token < BEGIN else b""


class ToyEngine:
    """Implements HostedEngine on the event loop itself: a step takes microseconds."""

    def __init__(self, settings: RuntimeSettings, metrics: EngineMetrics) -> None:
        folder, args = Path(settings.model_path), parse_args(settings.engine_args)
        self.tokenizer = Bytes(json.loads((folder / "tokenizer_config.json").read_text())["chat_template"])
        self.context_tokens = settings.context_tokens
        self.vocab_size = self.tokenizer.vocab_size
        self.max_answers = settings.max_sequences + settings.max_queued_requests
        self._table = read_table(folder / "model.safetensors")
        self._parrot: bool = args.parrot
        self._metrics = metrics
        self._grammars = GrammarCompiler(self.tokenizer)
        self._places = asyncio.Semaphore(args.places)
        self._desk = Desk(self.vocab_size)
        self._tasks: dict[Stream, asyncio.Task[None]] = {}
        self._open = 0

    def submit(self, request: GenerationRequest) -> Stream:
        if self._open + request.n > self.max_answers:
            raise QueueFullError("the toy's queue is full", 1)
        self._open += request.n

        async def start(stream: Stream) -> None:
            grammar = request.params.grammar
            matchers = [self._grammars.matcher(grammar) if grammar else None for _ in range(request.n)]
            answers = [
                Answer(request, index, stream, self.tokenizer, self.context_tokens, matcher)
                for index, matcher in enumerate(matchers)
            ]
            self._tasks[stream] = asyncio.ensure_future(self._run(stream, answers))

        return Stream(request.n, self._ended, self._cancelled, start)

    @property
    def eyes(self) -> None:
        return None

    async def validate_grammar(self, grammar: Grammar) -> None:
        self._grammars.matcher(grammar)

    def stats(self) -> EngineStats:
        running = min(self._open, len(self._tasks))
        return EngineStats(running=running, waiting=self._open - running)

    def memory(self) -> list[HeldLine]:
        return [HeldLine(Part.WEIGHTS, HOST, self._table.nbytes, self._table.nbytes)]

    def other_gpus(self) -> list[str]:
        return []

    def close(self) -> None:
        """There is nothing to free."""

    async def _run(self, stream: Stream, answers: list[Answer]) -> None:
        async with self._places:
            for answer in answers:
                self._read_prompt(answer)
            while answers:
                answers = [answer for answer in answers if self._step(stream, answer)]
                await asyncio.sleep(0)  # others have their turn
        self._tasks.pop(stream, None)

    def _read_prompt(self, answer: Answer) -> None:
        for position in range(answer.prompt_length - 1):
            answer.note_prompt_row(position, self._row(answer, position))
        answer.scheduled = time.monotonic()
        self._metrics.step(answer.prompt_length, 0, 0.0, 0.0)
        self._metrics.prefilled(answer.prompt_length, 0)

    def _step(self, stream: Stream, answer: Answer) -> bool:
        """One more byte; False when the answer has ended."""
        if answer.params.max_tokens == 0:
            delta = answer.nothing_to_generate()
        else:
            row = self._row(answer, answer.length - 1)
            barrier = answer.matcher.barrier() if answer.matcher else None
            try:
                token = answer.sampler.choose(row, barrier, self._desk)
            except NoTokenError as error:
                delta = Delta(answer.index, "", [], finish_reason=FinishReason.ERROR, error=str(error))
            else:
                delta = answer.take(token, row, time.monotonic())
            self._metrics.step(0, 1, 0.0, 0.0)
        self._count(answer, delta)
        stream.push(delta)
        return delta.finish_reason is None

    def _count(self, answer: Answer, delta: Delta) -> None:
        now = time.monotonic()
        if answer.generated == 1:
            self._metrics.first_token(now - answer.stream.arrived)
        if delta.finish_reason is not None:
            self._metrics.request_finished(answer.record(FinishReason(delta.finish_reason), now))

    def _row(self, answer: Answer, position: int) -> Floats:
        """Logits of what follows the token at `position`. A parrot prefers the prompt's own bytes."""
        row: Floats = self._table[answer.tokens[position]]
        said = position + 1 - answer.prompt_length
        if self._parrot and 0 <= said < answer.prompt_length:
            row = row.copy()
            row[answer.tokens[said]] += 100
        return row

    def _ended(self, count: int) -> None:
        self._open -= count

    def _cancelled(self, stream: Stream) -> None:
        if task := self._tasks.pop(stream, None):
            task.cancel()


def read_table(path: Path) -> Floats:
    """The one tensor of the file: (258, 258) float32 logits, a row per last byte."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    begin, end = header["table"]["data_offsets"]
    table: Floats = np.frombuffer(data[8 + size + begin : 8 + size + end], np.float32).reshape(258, 258)
    return table
