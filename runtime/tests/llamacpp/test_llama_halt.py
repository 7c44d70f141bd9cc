"""Steps of batch work end at once when a live answer comes, and nothing of what they computed is wrong for it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from llmservice_runtime.batching.decoder import HaltedError
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.llamacpp.serve.engine import LlamaCppEngine
from llmservice_runtime.engines.llamacpp.serve.process import load
from llmservice_runtime.openai.metrics import EngineMetrics
from llmservice_runtime.protocol.engine import GenerationRequest, SamplingParams

pytestmark = pytest.mark.engine

MODEL = Path(__file__).parents[2] / "demo" / "model" / "demo-Q4_K_M.gguf"
SETTINGS = RuntimeSettings(
    EngineType.LLAMA_CPP, str(MODEL), "demo", context_tokens=512, max_sequences=4, max_queued_requests=64, threads=1
)
LIVE = 40
"""Requests beside the batch: where a step of it takes longer than the time between two, it goes on after the last."""
GREEDY = SamplingParams(max_tokens=120, temperature=0.0, ignore_eos=True)


async def told(engine: LlamaCppEngine, prompt: str, *, batch: bool = False, most: int = 120) -> list[int]:
    tokens = engine.tokenizer.encode(prompt, add_special=True, parse_special=False)
    request = GenerationRequest("r", tokens, replace(GREEDY, max_tokens=most), batch=batch)
    return [token async for delta in engine.submit(request) for token in delta.token_ids]


@pytest.mark.parametrize("layout", ["split", "unified"])
async def test_halted_steps_are_computed_again(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load(replace(SETTINGS, engine_args=("--kv-layout", layout)), EngineMetrics("demo"), lambda _: None)
    assert isinstance(engine, LlamaCppEngine)
    halted = 0
    decode = engine._decoder.compute

    def counting(taken: object) -> None:
        nonlocal halted
        try:
            decode(taken)  # type: ignore[arg-type]
        except HaltedError:
            halted += 1
            raise

    monkeypatch.setattr(engine._decoder, "compute", counting)
    try:
        prompts = [f"{number} " + "the model answers and the service waits " * 12 for number in range(6)]
        alone = [await told(engine, prompt) for prompt in prompts]
        short = await told(engine, "What is", most=2)
        async with asyncio.timeout(120):
            work = [asyncio.ensure_future(told(engine, prompt, batch=True)) for prompt in prompts]
            for _ in range(LIVE):
                assert await told(engine, "What is", most=2) == short
                await asyncio.sleep(0.005)  # some steps of the batch, on a machine that has nothing else to do
            assert await asyncio.gather(*work) == alone
        assert halted > 3
    finally:
        engine.close()
