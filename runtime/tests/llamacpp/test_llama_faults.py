"""llama_decode that fails: the real engine on the demo model, with return codes put in at the edge of the library.

1 = no room in the memory (nothing was computed); 2 = aborted, below -1 = fatal (what was computed stays in it).
"""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest

from llmservice_runtime.batching import scheduler
from llmservice_runtime.batching.kvcache import Op
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.llamacpp.serve.engine import LlamaCppEngine
from llmservice_runtime.engines.llamacpp.serve.process import load
from llmservice_runtime.generation.arrays import Floats
from llmservice_runtime.openai.metrics import EngineMetrics
from llmservice_runtime.protocol.engine import Delta, FinishReason, GenerationRequest, SamplingParams

pytestmark = pytest.mark.engine

DEMO = Path(__file__).parents[2] / "demo"
LEARNED = {row["question"]: row["answer"] for row in json.loads((DEMO / "questions.json").read_text())}
QUESTIONS = [question for question, answer in LEARNED.items() if 8 < len(answer.split()) < 30][:8]
POISON = "<|im_start|>user\nThis text ends llama.cpp: \x07<|im_end|>\n<|im_start|>assistant\n"

Fault = Callable[[int, list[int], int], int | None]
"""From the number of the call, the tokens of its batch and how many answers they are of, to a code; None = its own."""


def no_fault(call: int, tokens: list[int], answers: int) -> int | None:
    return None


class Faults:
    """Stands between the engine and llama_decode."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.fault: Fault = no_fault
        self.calls = 0
        self.injected = 0

    def __call__(self, context: Any, batch: Any) -> int:
        self.calls += 1
        answers = {batch.seq_id[at][0] for at in range(batch.n_tokens)}
        code = self.fault(self.calls, list(batch.token[: batch.n_tokens]), len(answers))
        if code == 1:
            self.injected += 1
            return code
        result = int(self._real(context, batch))
        if code is not None:
            self.injected += 1
        return result if code is None else code


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    faults = Faults(llama_cpp.llama_decode)
    monkeypatch.setattr(llama_cpp, "llama_decode", faults)
    return faults


@pytest.fixture(params=["split", "unified"])
def engine(request: pytest.FixtureRequest, faults: Faults) -> Iterator[LlamaCppEngine]:
    settings = RuntimeSettings(
        engine=EngineType.LLAMA_CPP,
        model_path=str(DEMO / "model" / "demo-Q4_K_M.gguf"),
        model_name="demo",
        context_tokens=256,
        max_sequences=4,
        threads=1,
        engine_args=("--kv-layout", request.param),
    )
    engine = load(settings, EngineMetrics("demo"), lambda _: None)
    yield engine
    engine.close()


async def ask(engine: LlamaCppEngine, prompt: str) -> tuple[str, Delta]:
    """The text, and the last delta, with all token ids."""
    tokens = engine.tokenizer.encode(prompt, add_special=True, parse_special=True)
    params = SamplingParams(max_tokens=100, temperature=0.0)
    text, ids = "", []
    async for delta in engine.submit(GenerationRequest("r", tokens, params)):
        text += delta.text
        ids += delta.token_ids
        last = delta
    last.token_ids = ids
    return text, last


def chat(question: str) -> str:
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


async def check_all(engine: LlamaCppEngine) -> None:
    """Every question gets its learned answer, no token twice, none lost; then nothing is held."""
    got = await asyncio.gather(*(ask(engine, chat(question)) for question in QUESTIONS))
    assert [text for text, _ in got] == [LEARNED[question] for question in QUESTIONS]
    assert [engine.tokenizer.decode(end.token_ids) for _, end in got] == [text for text, _ in got]
    assert {end.finish_reason for _, end in got} == {FinishReason.STOP}
    assert (engine.stats().running, engine.stats().kv_usage) == (0, 0.0)


@pytest.mark.parametrize("code", [1, 2, -2, -3])
async def test_a_failure_that_passes_costs_no_answer(engine: LlamaCppEngine, faults: Faults, code: int) -> None:
    """Every seventh step of several answers, and all of a time, among them prompts and generation."""

    def fault(call: int, tokens: list[int], answers: int) -> int | None:
        return code if answers > 1 and (call % 7 == 3 or 20 < call < 24) else None

    faults.fault = fault
    await check_all(engine)
    assert faults.injected > 1
    faults.fault = no_fault
    await check_all(engine)


async def test_no_room_for_wide_batches_makes_them_narrow(
    engine: LlamaCppEngine, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One prompt is wider than what there is room for, so it must come in parts, whatever runs beside it."""
    for bound in ("STEP_SECONDS", "TILE_SECONDS"):  # a machine that is busy would have it in parts by itself
        monkeypatch.setattr(scheduler, bound, math.inf)
    await ask(engine, chat(QUESTIONS[0]))  # as the self-test does: before it, no batch is wide
    faults.fault = lambda call, tokens, answers: 1 if len(tokens) > 64 else None
    wide = chat(" ".join(QUESTIONS))
    (_, end), _ = await asyncio.gather(ask(engine, wide), check_others(engine))
    assert end.finish_reason in (FinishReason.STOP, FinishReason.LENGTH)
    assert faults.injected > 0
    await check_all(engine)


@pytest.mark.parametrize("code", [2, -3])
async def test_what_fails_alone_is_what_fails(engine: LlamaCppEngine, faults: Faults, code: int) -> None:
    poison = engine.tokenizer.encode("\x07", add_special=False, parse_special=False)[-1]
    faults.fault = lambda call, tokens, answers: code if poison in tokens else None
    (_, bad), _ = await asyncio.gather(ask(engine, POISON), check_others(engine))
    assert (bad.finish_reason, bad.token_ids) == (FinishReason.ERROR, [])
    assert bad.error == f"llama.cpp failed with {code}"
    await check_all(engine)


async def test_logits_that_are_no_numbers_end_the_answer_that_has_them(
    engine: LlamaCppEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest of a row with NaN in it is NaN: an answer of the tokens that are computed so would be nonsense."""
    decoder = engine._steps._decoder
    real, left = decoder.scores, [1]

    def scores(rows: int) -> Floats:
        found = real(rows)
        if rows > 1 and left:
            left.pop()
            found = found.copy()
            found[0, 7] = np.nan
        return found

    monkeypatch.setattr(decoder, "scores", scores)
    got = await asyncio.gather(*(ask(engine, chat(question)) for question in QUESTIONS))
    bad = [end.error for _, end in got if end.finish_reason is FinishReason.ERROR]
    assert bad == ["no token can be chosen: the model computed logits that are no numbers"]
    await check_all(engine)


def hold(engine: LlamaCppEngine) -> threading.Event:
    """No step begins, and nothing that is asked is done, until it is set."""
    go_on = threading.Event()

    def wait() -> None:
        go_on.wait(60)

    engine._steps._commands.put(wait)
    return go_on


async def test_a_cancellation_that_fails_ends_what_runs_and_not_the_engine(
    engine: LlamaCppEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody would be answered any more, nor told why."""
    params = SamplingParams(max_tokens=200, temperature=0.0, ignore_eos=True)
    gone, other = (engine.submit(GenerationRequest("r", [5, 6, number], params)) for number in (7, 8))
    await anext(gone)
    await anext(other)
    memory = engine._decoder.lanes._memory
    real, left = memory.apply, ["llama.cpp can't cut it"]

    def apply(ops: Iterable[Op]) -> None:
        if left:
            raise RuntimeError(left.pop())
        real(ops)

    go_on = hold(engine)
    monkeypatch.setattr(memory, "apply", apply)
    await gone.aclose()
    go_on.set()
    async with asyncio.timeout(60):
        deltas = [delta async for delta in other]
    assert deltas[-1].error == "the engine failed: llama.cpp can't cut it"
    await check_all(engine)


async def test_an_adapter_that_nobody_waits_for_any_more_is_not_loaded(engine: LlamaCppEngine) -> None:
    """A replica is told to end while one comes: what still runs is answered."""
    go_on = hold(engine)
    engine._steps.load_adapter(Path("nowhere.gguf")).cancel()
    go_on.set()
    async with asyncio.timeout(60):
        await check_all(engine)


async def check_others(engine: LlamaCppEngine) -> None:
    got = await asyncio.gather(*(ask(engine, chat(question)) for question in QUESTIONS))
    assert [text for text, _ in got] == [LEARNED[question] for question in QUESTIONS]


async def test_a_full_memory_ends_the_one_answer_that_does_not_fit(engine: LlamaCppEngine, faults: Faults) -> None:
    faults.fault = lambda call, tokens, answers: 1
    _, end = await ask(engine, chat(QUESTIONS[0]))
    assert end.finish_reason is FinishReason.ERROR
    assert end.error is not None and "no room" in end.error
    faults.fault = no_fault
    await check_all(engine)


async def test_a_lone_prompt_on_a_slow_machine_takes_several_steps(
    engine: LlamaCppEngine, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """50 tokens a second: in one step the prompt would take 4 s, ten times the time that a step may take here."""
    monkeypatch.setattr(scheduler, "STEP_SECONDS", 0.2)
    monkeypatch.setattr(scheduler, "TILE_SECONDS", 0.4)
    steps: list[int] = []
    expected: list[float] = []

    def slow(call: int, tokens: list[int], answers: int) -> int | None:
        steps.append(len(tokens))
        expected.append(engine.stats().step_seconds)
        time.sleep(0.02 * len(tokens))
        return None

    faults.fault = slow
    params = SamplingParams(max_tokens=2, temperature=0.0, ignore_eos=True)
    for prompt in ([5, 6], list(range(300, 500))):  # the self-test, then the prompt
        async for _ in engine.submit(GenerationRequest("r", prompt, params)):
            pass
    assert sum(steps) == 2 + 1 + 200 + 1
    assert max(steps) <= 32  # twice 0.2 s at most, and what a busy machine adds makes them smaller
    assert all(seconds >= 0.02 for seconds in expected[1:])  # what liveness is measured by
