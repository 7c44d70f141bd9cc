"""The real engine on models of every kind of memory, on those it must refuse, and on readers that misbehave."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.llamacpp.install.check import tiny_model
from llmservice_runtime.engines.llamacpp.serve.engine import LlamaCppEngine
from llmservice_runtime.engines.llamacpp.serve.process import load
from llmservice_runtime.openai.metrics import EngineMetrics
from llmservice_runtime.protocol.engine import (
    Delta,
    FinishReason,
    GenerationRequest,
    Grammar,
    GrammarError,
    GrammarKind,
    SamplingParams,
)
from tests.llamacpp.random_models import write

pytestmark = pytest.mark.engine

GREEDY = SamplingParams(max_tokens=24, temperature=0.0, ignore_eos=True, logprobs=0)
SETTINGS = RuntimeSettings(
    engine=EngineType.LLAMA_CPP,
    model_path="",
    model_name="random",
    context_tokens=256,
    max_sequences=4,
    max_queued_requests=8,
    threads=1,
)
TEXT = "the sea, the sun and the sand: " * 4

Make = Callable[..., LlamaCppEngine]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Engines on freshly written models, closed at the end."""
    made: list[LlamaCppEngine] = []

    def start(kind: str, *args: str, **fields: int) -> LlamaCppEngine:
        path = tmp_path / f"{kind}.gguf"
        settings = replace(SETTINGS, model_path=str(path if path.exists() else write(path, kind)), engine_args=args)
        made.append(load(replace(settings, **fields), EngineMetrics("random"), lambda _: None))  # type: ignore[arg-type]
        return made[-1]

    yield start
    for engine in made:
        engine.close()


def request(engine: LlamaCppEngine, text: str, params: SamplingParams = GREEDY) -> GenerationRequest:
    return GenerationRequest("r", engine.tokenizer.encode(text, add_special=True, parse_special=True), params)


async def whole(stream: AsyncIterator[Delta]) -> Delta:
    """All deltas of one answer in one."""
    total = Delta(0, "", [])
    async for delta in stream:
        assert total.finish_reason is None, "a delta after the end"
        total.text += delta.text
        total.token_ids += delta.token_ids
        total.logprobs = (total.logprobs or []) + (delta.logprobs or [])
        total.cached_tokens += delta.cached_tokens
        total.finish_reason, total.error = delta.finish_reason, delta.error
    return total


def logprobs(delta: Delta) -> list[float]:
    assert delta.logprobs is not None
    return [position.logprob for position in delta.logprobs]


@pytest.mark.parametrize("kind", ["mamba", "gemma2"])
async def test_memories_that_cannot_be_cut_are_not_reused_and_never_mixed(make: Make, kind: str) -> None:
    """Four at a time, twice, in slots that held other texts: the same as one alone in a fresh engine."""
    texts = [TEXT + word for word in ("one", "two", "three", "four", "five", "six")]
    alone = make(kind, max_sequences=1)
    expected = [await whole(alone.submit(request(alone, text))) for text in texts]
    engine = make(kind)
    for _ in range(2):
        got = await asyncio.gather(*(whole(engine.submit(request(engine, text))) for text in texts))
        for one, right in zip(got, expected, strict=True):
            assert one.cached_tokens == 0
            assert one.finish_reason is FinishReason.LENGTH
            same = next(
                (at for at, pair in enumerate(zip(one.token_ids, right.token_ids, strict=True)) if len(set(pair)) > 1),
                len(right.token_ids),
            )
            # Random weights leave near ties, which the order of sums in a batch may break: not at once, though.
            assert same >= 4
            assert logprobs(one)[:same] == pytest.approx(logprobs(right)[:same], abs=0.1)


async def test_a_grammar_s_forced_text_has_no_space_before_it(make: Make) -> None:
    """Sentencepiece puts one before a text: `yes` came out as `y` and a refused ` es`."""
    engine = make("llama")
    params = SamplingParams(max_tokens=8, temperature=1.0, grammar=Grammar(GrammarKind.LARK, 'start: "yes" | "no"'))
    for seed in range(8):
        tokens = request(engine, "Say").prompt_tokens
        echo = GenerationRequest("r", tokens, replace(params, seed=seed, logprobs=1), prompt_logprobs=True)
        answer = await whole(engine.submit(echo))
        assert (answer.text in ("yes", "no"), answer.error, answer.finish_reason) == (True, None, FinishReason.STOP)
    with pytest.raises(GrammarError) as refused:
        await engine.validate_grammar(Grammar(GrammarKind.LARK, "start: nothing"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", ["bert", "pooled", "no tokenizer"])
def test_models_that_generate_no_text_are_refused_in_words(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.gguf"
    if kind == "no tokenizer":
        path.write_bytes(tiny_model())
    else:
        write(path, kind)
    with pytest.raises(UserError) as refused:
        load(replace(SETTINGS, model_path=str(path)), EngineMetrics("random"), lambda _: None)
    assert refused.value.failure is FailureClass.UNSUPPORTED_FORMAT
    assert {"bert": "embedding", "pooled": "embedding", "no tokenizer": "tokenizer"}[kind] in refused.value.reason
    assert refused.value.remedy


async def test_quantized_keys_and_values(make: Make) -> None:
    plain, small = make("llama"), make("llama", "--kv-type", "q8_0")
    one, other = [await whole(engine.submit(request(engine, TEXT))) for engine in (plain, small)]
    assert logprobs(one)[0] == pytest.approx(logprobs(other)[0], abs=0.2)
    assert len(other.token_ids) == GREEDY.max_tokens


def test_a_context_that_does_not_fit_says_what_would(make: Make) -> None:
    with pytest.raises(UserError) as refused:
        make("llama", "--kv-layout", "unified", kv_tokens=2_000_000_000)
    assert refused.value.failure is FailureClass.OUT_OF_MEMORY
    assert "GiB are free" in refused.value.reason
    assert "tokens fit" in refused.value.remedy


async def test_a_slow_reader_gets_one_merged_delta(make: Make) -> None:
    engine = make("llama")
    params = replace(GREEDY, max_tokens=100)
    quick = await whole(engine.submit(request(engine, "the", params)))
    stream = engine.submit(request(engine, "the", params))
    await whole(engine.submit(request(engine, "another answer, which ends later", replace(params, max_tokens=120))))
    assert len(stream._pending) == 1
    last = await anext(stream)
    assert last.finish_reason is FinishReason.LENGTH
    assert (last.text, last.token_ids) == (quick.text, quick.token_ids)
    assert "".join(position.text or "" for position in last.logprobs or []) == last.text
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_cancelled_answer_leaves_with_the_step_it_is_in(make: Make) -> None:
    engine = make("llama")
    stream = engine.submit(request(engine, "the", replace(GREEDY, max_tokens=200)))
    await anext(stream)
    await stream.aclose()
    done = threading.Event()
    engine._steps._commands.put(done.set)
    assert await asyncio.to_thread(done.wait, 10)
    assert (engine.stats().running, engine.stats().kv_usage) == (0, 0.0)


def test_a_closed_event_loop_ends_its_answers_and_no_others(make: Make) -> None:
    engine = make("llama")

    async def leave() -> None:
        stream = engine.submit(request(engine, "the", replace(GREEDY, max_tokens=240)))
        await anext(stream)

    async def stay() -> Delta:
        return await whole(engine.submit(request(engine, "the")))

    asyncio.run(leave())
    answer = asyncio.run(stay())
    assert len(answer.token_ids) == GREEDY.max_tokens
    assert (engine.stats().running, engine.stats().kv_usage) == (0, 0.0)
