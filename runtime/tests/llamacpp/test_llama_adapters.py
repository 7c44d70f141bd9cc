"""LoRA on llama.cpp: an adapter is what its matrices say, answers of several run beside each other, and go live."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from demo.make_adapter import ADAPTERS, ALPHA, dice
from demo.make_gguf import derive
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.llamacpp.serve import adapters, peft
from llmservice_runtime.engines.llamacpp.serve.engine import LlamaCppEngine
from llmservice_runtime.engines.llamacpp.serve.process import load
from llmservice_runtime.formats.lora import inspect_adapter
from llmservice_runtime.openai.metrics import EngineMetrics
from llmservice_runtime.protocol.engine import GenerationRequest, SamplingParams, UnknownAdapterError
from llmservice_runtime.sources.local import LocalFiles
from llmservice_runtime.sources.uri import parse_uri

pytestmark = pytest.mark.engine

DEMO = Path(__file__).parents[2] / "demo" / "model"
GREEDY = SamplingParams(max_tokens=60, temperature=0.0)
"""They say what they were trained to, to its end: other texts have near ties, which batching may break."""
SETTINGS = RuntimeSettings(
    engine=EngineType.LLAMA_CPP,
    model_path=str(DEMO / "demo-Q4_K_M.gguf"),
    model_name="demo",
    context_tokens=512,
    max_sequences=8,
    max_queued_requests=32,
    threads=1,
    adapter_count=4,
    adapter_rank=16,
)
TEXT = "<|im_start|>user\nWhat is the capital of Finland?<|im_end|>\n<|im_start|>assistant\n"
RANK = 4


@pytest.fixture(scope="module", params=["split", "unified"])
def engine(request: pytest.FixtureRequest) -> Iterator[LlamaCppEngine]:
    made = load(replace(SETTINGS, engine_args=("--kv-layout", request.param)), EngineMetrics("demo"), lambda _: None)
    yield made
    made.close()


async def tokens(engine: LlamaCppEngine, adapter: str = "", text: str = TEXT, most: int = 60) -> list[int]:
    prompt = engine.tokenizer.encode(text, add_special=True, parse_special=True)
    params = replace(GREEDY, max_tokens=most)
    request = GenerationRequest("r", prompt, params, adapter=adapter)
    return [token async for delta in engine.submit(request) for token in delta.token_ids]


async def test_answers_of_adapters_and_the_model_run_beside_each_other(engine: LlamaCppEngine) -> None:
    before = await tokens(engine)
    for name in ("polite", "court"):
        await engine.load_adapter(name, ADAPTERS / name)
    alone = {name: await tokens(engine, name) for name in ("", "polite", "court")}
    assert alone[""] == before
    assert len({tuple(answer) for answer in alone.values()}) == 3
    names = ["", "polite", "court"] * 4
    together = await asyncio.gather(*(tokens(engine, name) for name in names))
    assert together == [alone[name] for name in names]
    for name in ("polite", "court"):
        await engine.unload_adapter(name)
    assert await tokens(engine) == before


async def test_a_conversion_holds_up_no_step(engine: LlamaCppEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of rank 32 for 7 B takes a second."""
    begun, go = threading.Event(), threading.Event()

    def slow(folder: Path, base: peft.Base) -> Iterator[bytes]:
        begun.set()
        assert go.wait(120)
        yield from peft.as_gguf(folder, base)

    monkeypatch.setattr(adapters, "as_gguf", slow)
    loading = asyncio.create_task(engine.load_adapter("polite", ADAPTERS / "polite"))
    try:
        assert await asyncio.to_thread(begun.wait, 60)
        assert await asyncio.wait_for(tokens(engine, most=3), 60)
    finally:
        go.set()
        await loading
    await engine.unload_adapter("polite")


async def test_what_runs_with_an_adapter_ends_with_it_though_it_is_taken_away(engine: LlamaCppEngine) -> None:
    await engine.load_adapter("polite", ADAPTERS / "polite")
    whole = await tokens(engine, "polite")
    prompt = engine.tokenizer.encode(TEXT, add_special=True, parse_special=True)
    stream = engine.submit(GenerationRequest("r", prompt, GREEDY, adapter="polite"))
    first = await anext(stream)
    await engine.unload_adapter("polite")
    with pytest.raises(UnknownAdapterError):
        engine.submit(GenerationRequest("r", prompt, GREEDY, adapter="polite"))
    # Another one of the same name: neither what runs nor what was kept of the first is its.
    await engine.load_adapter("polite", ADAPTERS / "court")
    other = await tokens(engine, "polite")
    assert [*first.token_ids, *[token async for delta in stream for token in delta.token_ids]] == whole
    assert other != whole
    await engine.load_adapter("polite", ADAPTERS / "polite")
    assert await tokens(engine, "polite") == whole
    await engine.unload_adapter("polite")


async def test_an_adapter_is_what_merging_it_into_the_weights_would_be(tmp_path: Path) -> None:
    """On 16-bit weights, so that merged ones are no coarser. Queries and keys are reordered on the way to a GGUF."""
    merged = tmp_path / "merged"
    merged.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (merged / name).write_bytes((DEMO / name).read_bytes())
    _merge(DEMO / "model.safetensors", ADAPTERS / "polite" / "adapter_model.safetensors", merged / "model.safetensors")
    scored = replace(GREEDY, max_tokens=1, logprobs=5)
    found = []
    for path, adapter in ((derive("F16"), "polite"), (derive("F16", merged, merged), "")):
        engine = load(replace(SETTINGS, model_path=str(path)), EngineMetrics("demo"), lambda _: None)
        try:
            if adapter:
                await engine.load_adapter(adapter, ADAPTERS / adapter)
            prompt = engine.tokenizer.encode(TEXT, add_special=True, parse_special=True)
            request = GenerationRequest("r", prompt, scored, adapter=adapter, prompt_logprobs=True)
            deltas = [delta async for delta in engine.submit(request)]
            found.append([one.logprob for one in deltas[0].prompt_logprobs or () if one is not None])
        finally:
            engine.close()
    assert len(found[0]) > 10
    np.testing.assert_allclose(found[0], found[1], atol=0.2)


async def test_what_does_not_go_with_the_model_is_refused_by_name(engine: LlamaCppEngine, tmp_path: Path) -> None:
    before = await tokens(engine)
    wide = dice(tmp_path / "wide", hidden=128)
    with pytest.raises(UserError, match=r"incorrect shape|rows"):
        await engine.load_adapter("wide", wide)
    (broken := tmp_path / "broken.gguf").write_bytes(b"GGUF and nothing else")
    with pytest.raises(UserError, match="can't load the adapter"):
        await engine.load_adapter("broken", broken)
    with pytest.raises(UserError, match="DoRA"):
        await engine.load_adapter("dora", dice(tmp_path / "dora", use_dora=True))
    assert await tokens(engine) == before


async def test_what_was_checked_is_loaded_whatever_lies_beside_it(engine: LlamaCppEngine, tmp_path: Path) -> None:
    folder = shutil.copytree(ADAPTERS / "polite", tmp_path / "polite")
    (folder / "another.gguf").write_bytes(b"GGUF that nobody has looked at")
    await engine.load_adapter("polite", folder)
    assert await tokens(engine, "polite") != await tokens(engine)
    await engine.unload_adapter("polite")


async def test_a_gguf_of_it_is_the_same_adapter(engine: LlamaCppEngine, tmp_path: Path) -> None:
    pieces = peft.as_gguf(ADAPTERS / "polite", peft.Base("llama", 4, 2))
    (file := tmp_path / "red.gguf").write_bytes(b"".join(pieces))
    facts = inspect_adapter(LocalFiles(parse_uri(f"file://{file}", tmp_path), None))
    assert (facts.rank, facts.layers, facts.architecture) == (RANK, 4, "llama")
    await engine.load_adapter("peft", ADAPTERS / "polite")
    await engine.load_adapter("gguf", file)
    assert await tokens(engine, "gguf") == await tokens(engine, "peft")
    for name in ("peft", "gguf"):
        await engine.unload_adapter(name)


def test_a_conversion_takes_the_memory_of_a_matrix(tmp_path: Path) -> None:
    """No plan has more: an adapter that was all there at once, in 32 bits, could end a replica that has room for it."""
    folder = dice(tmp_path / "large", rank=64)
    largest = 4 * 64 * 768
    tracemalloc.start()
    size = sum(len(piece) for piece in peft.as_gguf(folder, peft.Base("qwen2", 4, 2)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 10 * largest and peak < 5 * largest, (size, peak)


def _read(path: Path) -> dict[str, tuple[dict[str, Any], bytes]]:
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    return {
        name: (entry, data[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def _merge(base: Path, adapter: Path, target: Path) -> None:
    """The base's weights plus what the adapter adds, as bfloat16, rounded to the nearest."""
    added = {
        name: np.frombuffer(raw, "<f2").astype(np.float32).reshape(entry["shape"])
        for name, (entry, raw) in _read(adapter).items()
    }
    header: dict[str, object] = {}
    pieces, end = [], 0
    for name, (entry, raw) in _read(base).items():
        module = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{module}.lora_A.weight" in added:
            weights = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])
            product = added[f"{module}.lora_B.weight"] @ added[f"{module}.lora_A.weight"]
            bits = np.ascontiguousarray(weights + product * (ALPHA / RANK), np.float32).view(np.uint32)
            raw = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()
        header[name] = {"dtype": "BF16", "shape": entry["shape"], "data_offsets": [end, end + len(raw)]}
        pieces.append(raw)
        end += len(raw)
    text = json.dumps(header).encode()
    target.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(pieces))


@pytest.mark.parametrize("architecture", sorted(peft.NAMES))
def test_names_are_those_that_converters_give(architecture: str) -> None:
    number = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(number, 1)
    for theirs, ours in peft.NAMES[architecture].items():
        assert names.get_name(f"model.layers.0.{theirs}") == f"blk.0.{ours}"
