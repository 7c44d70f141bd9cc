"""The real engine on the demo model: batching, sharing, preemption, cancellation, sampling fields."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.contract.settings import RuntimeSettings
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
    QueueFullError,
    SamplingParams,
)

pytestmark = pytest.mark.engine

MODEL = Path(__file__).parents[2] / "demo" / "model" / "demo-Q4_K_M.gguf"
GREEDY = SamplingParams(max_tokens=24, temperature=0.0, ignore_eos=True)
SETTINGS = RuntimeSettings(
    engine=EngineType.LLAMA_CPP,
    model_path=str(MODEL),
    model_name="demo",
    context_tokens=256,
    max_sequences=4,
    max_queued_requests=8,
    threads=1,
)

Engines = Callable[..., LlamaCppEngine]


@pytest.fixture(scope="module")
def engines() -> Iterator[Engines]:
    """Engines by their settings, made once each."""
    made: dict[tuple[object, ...], LlamaCppEngine] = {}

    def get(layout: str = "split", **fields: object) -> LlamaCppEngine:
        key = (layout, *sorted(fields.items()))
        if key not in made:
            settings = replace(SETTINGS, engine_args=("--kv-layout", layout), **fields)  # type: ignore[arg-type]
            made[key] = load(settings, EngineMetrics("demo"), lambda _: None)
        return made[key]

    yield get
    for engine in made.values():
        engine.close()


def prompt(engine: LlamaCppEngine, text: str) -> list[int]:
    return engine.tokenizer.encode(text, add_special=True, parse_special=True)


async def answers(
    engine: LlamaCppEngine,
    text: str | Sequence[int],
    params: SamplingParams = GREEDY,
    n: int = 1,
    prompt_logprobs: bool = False,
) -> list[tuple[str, Delta]]:
    """Per answer: its whole text, and the last delta with all tokens and logprobs in it."""
    tokens = prompt(engine, text) if isinstance(text, str) else text
    texts, wholes = [""] * n, [Delta(index, "", []) for index in range(n)]
    async for delta in engine.submit(GenerationRequest("r", tokens, params, n, prompt_logprobs)):
        whole = wholes[delta.index]
        assert whole.finish_reason is None, "a delta after the end"
        texts[delta.index] += delta.text
        whole.token_ids += delta.token_ids
        whole.cached_tokens += delta.cached_tokens
        whole.logprobs = (whole.logprobs or []) + (delta.logprobs or [])
        whole.prompt_logprobs = delta.prompt_logprobs or whole.prompt_logprobs
        whole.finish_reason, whole.stop_reason, whole.error = delta.finish_reason, delta.stop_reason, delta.error
    assert all(whole.finish_reason is not None for whole in wholes)
    return list(zip(texts, wholes, strict=True))


LEARNED = {row["question"]: row["answer"] for row in json.loads((MODEL.parents[1] / "questions.json").read_text())}
"""What the demo model was trained to say, word by word. Other prompts leave near ties that batching may break."""
QUESTIONS = [question for question, answer in LEARNED.items() if 8 < len(answer.split()) < 30][:24]
ANSWER = SamplingParams(max_tokens=100, temperature=0.0)


def chat(question: str, history: Sequence[str] = ()) -> str:
    turns = [f"<|im_start|>user\n{old}<|im_end|>\n<|im_start|>assistant\n{LEARNED[old]}<|im_end|>\n" for old in history]
    return "".join(turns) + f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("layout", ["split", "unified"])
async def test_every_batched_answer_is_the_right_one(engines: Engines, layout: str) -> None:
    engine = engines(layout, max_queued_requests=100)
    results = await asyncio.gather(*(answers(engine, chat(question), ANSWER) for question in QUESTIONS))
    assert [result[0][0] for result in results] == [LEARNED[question] for question in QUESTIONS]
    assert all(result[0][1].finish_reason is FinishReason.STOP for result in results)


@pytest.mark.parametrize("layout", ["split", "unified"])
async def test_a_shared_beginning_is_reused_and_changes_nothing(engines: Engines, layout: str) -> None:
    """Also between requests that arrive together: the first computes what the others copy."""
    fresh, engine = engines("split", max_sequences=1), engines(layout)
    history = QUESTIONS[:3]
    texts = [chat(question, history) for question in QUESTIONS[4:8]]
    score = replace(GREEDY, max_tokens=1, logprobs=3)
    expected = []
    for text in texts:
        await answers(fresh, "Something else entirely, to clear the only slot of what it held before.")
        expected.append((await answers(fresh, text, score))[0][1])
    got = [result[0][1] for result in await asyncio.gather(*(answers(engine, text, score) for text in texts))]
    assert sorted(end.cached_tokens > 50 for end in got) == [False, True, True, True]
    for end, right in zip(got, expected, strict=True):
        assert right.cached_tokens == 0
        assert end.logprobs is not None and right.logprobs is not None
        assert end.logprobs[0].logprob == pytest.approx(right.logprobs[0].logprob, abs=0.1)
        assert end.token_ids == right.token_ids
    again = (await answers(engine, texts[0], score))[0][1]
    assert again.cached_tokens > 50
    assert again.token_ids == expected[0].token_ids


async def test_prompt_tokens_are_counted_as_vllm_counts_them(engines: Engines) -> None:
    """Whole prompts, once per answer: what was cached, and what n answers share, too."""
    engine = engines("split", max_sequences=1)
    text = chat(QUESTIONS[0], QUESTIONS[1:3])

    def counted(name: str) -> float:
        lines = engine._metrics.render().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"vllm:{name}_total{{"))

    before, cached = counted("prompt_tokens"), counted("prompt_tokens_cached")
    ends = await answers(engine, text)
    ends += await answers(engine, text, n=3)
    assert counted("prompt_tokens") - before == 4 * len(prompt(engine, text))
    assert counted("prompt_tokens_cached") - cached == sum(end.cached_tokens for _, end in ends) > 0


async def test_preempted_answers_lose_nothing(engines: Engines) -> None:
    engine = engines("unified", kv_tokens=256, max_sequences=8)
    long = sorted(LEARNED, key=lambda question: -len(LEARNED[question]))[1:9]
    got = await asyncio.gather(*(answers(engine, chat(question), ANSWER) for question in long))
    assert [result[0][0] for result in got] == [LEARNED[question] for question in long]
    preempted = next(
        line for line in engine._metrics.render().splitlines() if line.startswith(b"vllm:num_preemptions_t")
    )
    assert float(preempted.split()[-1]) > 0
    assert engine.stats().kv_usage == 0


async def test_closing_frees_the_memory(engines: Engines) -> None:
    engine = engines("split")
    stream = engine.submit(GenerationRequest("r", prompt(engine, "Hello!"), replace(GREEDY, max_tokens=200)))
    await anext(stream)
    assert engine.stats().running == 1
    await stream.aclose()
    await answers(engine, "Hello!", replace(GREEDY, max_tokens=2))
    assert engine.stats().running == 0
    assert engine.stats().kv_usage == 0


async def test_the_queue_is_bounded_and_says_when_to_come_back(engines: Engines) -> None:
    engine = engines("split")
    request = GenerationRequest("r", prompt(engine, "Hello!"), replace(GREEDY, max_tokens=100))
    streams = [engine.submit(request) for _ in range(12)]
    with pytest.raises(QueueFullError) as refused:
        engine.submit(request)
    assert 1 <= refused.value.retry_after <= 120
    assert not refused.value.draining
    for stream in streams:
        await stream.aclose()
    assert (await answers(engine, "Hello!", GREEDY))[0][1].finish_reason is FinishReason.LENGTH


async def test_n_answers_with_a_seed(engines: Engines) -> None:
    """One at a time, so that the logits are the same to the last bit."""
    engine = engines("split", max_sequences=1)
    params = SamplingParams(max_tokens=16, temperature=1.5, seed=7, ignore_eos=True)
    first = [whole.token_ids for _, whole in await answers(engine, "Hello!", params, n=3)]
    assert len({tuple(tokens) for tokens in first}) == 3
    assert [whole.token_ids for _, whole in await answers(engine, "Hello!", params, n=3)] == first
    assert [whole.token_ids for _, whole in await answers(engine, "Hello!", replace(params, seed=8), n=3)] != first


async def test_n_answers_share_one_prefill(engines: Engines) -> None:
    engine = engines("split")
    text = chat("Please write something about language models that run on one machine, in a sentence or two, or three.")
    ends = [end for _, end in await answers(engine, text, GREEDY, n=3)]
    assert sorted(end.cached_tokens for end in ends) == [0, *[len(prompt(engine, text)) - 1] * 2]


async def test_stop_strings_and_tokens(engines: Engines) -> None:
    engine = engines("split")
    text, whole = (await answers(engine, "What is LLMService?"))[0]
    stop = text[5:9]
    stopped, end = (await answers(engine, "What is LLMService?", replace(GREEDY, stop=(stop,))))[0]
    assert stopped == text[: text.index(stop)]
    assert (end.finish_reason, end.stop_reason) == (FinishReason.STOP, stop)
    token = whole.token_ids[4]
    _, end = (await answers(engine, "What is LLMService?", replace(GREEDY, stop_token_ids=(token,))))[0]
    assert end.stop_reason == token
    assert end.token_ids == whole.token_ids[: whole.token_ids.index(token) + 1]


async def test_grammars(engines: Engines) -> None:
    engine = engines("split")
    params = SamplingParams(max_tokens=100, temperature=1.0, seed=1)
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "green"]}, "n": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["colour", "n"],
        "additionalProperties": False,
    }
    grammar = Grammar(GrammarKind.JSON_SCHEMA, json.dumps(schema))
    for text, end in await answers(engine, "Hello!", replace(params, grammar=grammar), n=2):
        assert set(json.loads(text)) == {"colour", "n"}
        assert end.finish_reason is FinishReason.STOP
    text, _ = (await answers(engine, "Hello!", replace(params, grammar=Grammar(GrammarKind.REGEX, "[ab]{3}"))))[0]
    assert len(text) == 3 and set(text) <= {"a", "b"}
    for source in ("{", '{"type": "nonsense"}'):
        with pytest.raises(GrammarError):
            await engine.validate_grammar(Grammar(GrammarKind.JSON_SCHEMA, source))
    with pytest.raises(GrammarError):
        await answers(engine, "Hello!", replace(params, grammar=Grammar(GrammarKind.REGEX, "(")))
    assert (await answers(engine, "Hello!", GREEDY))[0][1].finish_reason is FinishReason.LENGTH


async def test_a_request_whose_grammar_turns_out_to_be_none_takes_no_place(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grammar that was kept may fail in the middle of another's answer just when one more comes with it."""
    engine = engines("split")
    monkeypatch.setattr(engine._grammars, "cached", lambda grammar: True)
    request = GenerationRequest("r", [5], replace(GREEDY, grammar=Grammar(GrammarKind.REGEX, "(")))
    for _ in range(engine.max_answers + 1):
        with pytest.raises(GrammarError):
            engine.submit(request)


async def test_logprobs_of_answer_and_prompt_agree(engines: Engines) -> None:
    engine = engines("split")
    tokens = prompt(engine, "The quick brown fox")
    _, whole = (await answers(engine, tokens, replace(GREEDY, logprobs=2, max_tokens=5)))[0]
    assert whole.logprobs is not None
    assert [position.token_id for position in whole.logprobs] == whole.token_ids
    assert all(position.top[0][0] == position.token_id for position in whole.logprobs)
    again = replace(GREEDY, logprobs=0, max_tokens=0)
    _, scored = (await answers(engine, [*tokens, *whole.token_ids], again, prompt_logprobs=True))[0]
    assert scored.prompt_logprobs is not None
    assert scored.prompt_logprobs[0] is None
    echoed = [position.logprob for position in scored.prompt_logprobs[len(tokens) :] if position is not None]
    assert echoed == pytest.approx([position.logprob for position in whole.logprobs], abs=0.05)


async def test_drain_and_abort() -> None:
    engine = load(SETTINGS, EngineMetrics("demo"), lambda _: None)
    request = GenerationRequest("r", prompt(engine, "Hello!"), replace(GREEDY, max_tokens=200))
    stream = engine.submit(request)
    await anext(stream)
    engine.begin_drain()
    with pytest.raises(QueueFullError) as refused:
        engine.submit(request)
    assert refused.value.draining
    engine.abort_all("over")
    last = [delta async for delta in stream][-1]
    assert (last.finish_reason, last.error) == (FinishReason.ERROR, "over")
    assert await engine.drained(5)
    engine.close()


def test_what_cannot_be_loaded_is_classified(tmp_path: Path) -> None:
    def failure(path: Path, **fields: int) -> FailureClass:
        with pytest.raises(UserError) as refused:
            settings = replace(SETTINGS, model_path=str(path), **fields)  # type: ignore[arg-type]
            load(settings, EngineMetrics("demo"), lambda _: None)
        return refused.value.failure

    assert failure(tmp_path / "none.gguf") is FailureClass.MODEL_NOT_FOUND
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(MODEL.read_bytes()[:100_000])
    assert failure(damaged) is FailureClass.MODEL_DAMAGED
    assert failure(MODEL, context_tokens=2_000_000_000) is FailureClass.OUT_OF_MEMORY


async def test_the_tokenizer_gives_back_what_it_took(engines: Engines) -> None:
    tokenizer = engines("split").tokenizer
    text = "Hello, wörld 🙂!"
    tokens = tokenizer.encode(text, add_special=False, parse_special=False)
    assert tokenizer.decode(tokens).strip() == text
    assert b"".join(map(tokenizer.token_bytes, tokens)).decode().strip() == text
    assert tokenizer.chat_template
    assert tokenizer.eos_token
