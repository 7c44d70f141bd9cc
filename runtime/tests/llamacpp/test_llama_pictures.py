"""Pictures on llama.cpp's engine: its own helper's numbers, steps beside other streams, memory that is reused."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pictures.drawn import noise  # type: ignore[import-not-found]
from pictures.seeing import kinds  # type: ignore[import-not-found]

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.memory import Part
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.llamacpp.memory import picture_buffer
from llmservice_runtime.engines.llamacpp.options import LlamaOptions
from llmservice_runtime.engines.llamacpp.serve.binding import buffers
from llmservice_runtime.engines.llamacpp.serve.engine import LlamaCppEngine
from llmservice_runtime.engines.llamacpp.serve.eyes import LlamaEyes
from llmservice_runtime.engines.llamacpp.serve.process import load
from llmservice_runtime.formats.inspect import inspect_model
from llmservice_runtime.openai.metrics import EngineMetrics
from llmservice_runtime.protocol.engine import GenerationRequest, SamplingParams
from llmservice_runtime.protocol.pictures import Span
from llmservice_runtime.sources.local import LocalFiles
from llmservice_runtime.sources.uri import parse_uri

pytestmark = pytest.mark.engine

BEFORE, AFTER = "<|im_start|>user\nLook: ", " What is this?<|im_end|>\n<|im_start|>assistant\n"
TOKENS = 12
KINDS = ("llava", "gemma3", "qwen2vl")
SIZES = {1: (56, 56), 2: (112, 84), 3: (300, 200), 4: (40, 90), 5: (56, 56)}
"""Seed -> width and height."""

Models = dict[str, tuple[Path, str]]
Engines = Callable[..., LlamaCppEngine]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    found: Models = kinds(tmp_path_factory.mktemp("seeing"))
    return found


@pytest.fixture(scope="module")
def engines(models: Models) -> Iterator[Engines]:
    """Engines by kind and arguments, made once each."""
    made: dict[tuple[str, ...], LlamaCppEngine] = {}

    def get(kind: str, *args: str, **fields: Any) -> LlamaCppEngine:
        key = (kind, *args, *map(str, fields.items()))
        if key not in made:
            made[key] = load(settings(models, kind, *args, **fields), EngineMetrics("demo"), lambda _: None)
        return made[key]

    yield get
    for engine in made.values():
        engine.close()


def settings(models: Models, kind: str, *args: str, **fields: Any) -> RuntimeSettings:
    path, beside = models[kind]
    said = RuntimeSettings(
        engine=EngineType.LLAMA_CPP,
        model_path=str(path),
        model_name="demo",
        context_tokens=512,
        max_sequences=4,
        threads=1,
        engine_args=(f"--mmproj={beside}", *args),
    )
    return replace(said, **fields)


async def prompt(engine: LlamaCppEngine, *parts: int | str) -> tuple[list[int], list[Span]]:
    """Texts and pictures (by their seeds), as tokens."""
    assert engine.eyes is not None
    tokens: list[int] = []
    spans: list[Span] = []
    for part in parts:
        if isinstance(part, str):
            tokens += engine.tokenizer.encode(part, add_special=False, parse_special=True)
            continue
        rgb = noise(part, *SIZES[part]).tobytes()
        glimpse = engine.eyes.known(bytes([part])) or await engine.eyes.glimpse(bytes([part]), *SIZES[part], rgb)
        spans += [replace(span, start=span.start + len(tokens)) for span in await engine.eyes.see(glimpse)]
        tokens += glimpse.tokens
    return tokens, spans


async def answered(
    engine: LlamaCppEngine, *parts: int | str, tokens: int = TOKENS, begun: asyncio.Event | None = None
) -> tuple[list[int], int]:
    """Tokens of a greedy answer, and how many of the prompt were there already. `begun` is set with the first."""
    given, spans = await prompt(engine, *parts)
    params = SamplingParams(max_tokens=tokens, temperature=0, ignore_eos=True)
    found: list[int] = []
    cached = 0
    async for delta in engine.submit(GenerationRequest("r", given, params, pictures=spans)):
        assert delta.error is None, delta.error
        if begun is not None:
            begun.set()
        found += delta.token_ids
        cached = max(cached, delta.cached_tokens)
    return found, cached


def by_helper(models: Models, kind: str, seeds: Sequence[int]) -> list[int]:
    """What llama.cpp's own helper makes of the same pictures in one prompt, alone in a context."""
    import llama_cpp
    import llama_cpp.mtmd_cpp as mtmd

    path, beside = models[kind]
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    inside = llama_cpp.llama_context_default_params()
    inside.n_ctx, inside.n_batch, inside.n_ubatch, inside.n_threads, inside.flash_attn_type = 512, 512, 512, 1, 1
    context = llama_cpp.llama_init_from_model(model, inside)
    said = mtmd.mtmd_context_params_default()
    said.use_gpu, said.n_threads, said.flash_attn_type, said.print_timings = False, 1, 1, False
    said.image_max_tokens = 1024
    eyes = mtmd.mtmd_init_from_file(str(path.parent / beside).encode(), model, said)
    chunks = mtmd.mtmd_input_chunks_init()
    bitmaps = []
    for seed in seeds:
        data = noise(seed, *SIZES[seed]).tobytes()
        bitmaps.append(mtmd.mtmd_bitmap_init(*SIZES[seed], ctypes.cast(data, ctypes.POINTER(ctypes.c_uint8))))
    words = (BEFORE + "<__media__>" * len(seeds) + AFTER).encode()
    text = mtmd.mtmd_input_text(words, len(words), False, True)
    assert not mtmd.mtmd_tokenize(
        eyes, chunks, ctypes.byref(text), (ctypes.c_void_p * len(seeds))(*bitmaps), len(seeds)
    )
    past = ctypes.c_int32(0)
    assert not mtmd.mtmd_helper_eval_chunks(eyes, context, chunks, 0, 0, 512, True, ctypes.byref(past))
    size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    found: list[int] = []
    for number in range(TOKENS):
        logits = llama_cpp.llama_get_logits_ith(context, -1)
        found.append(max(range(size), key=lambda token: logits[token]))
        token, position = (llama_cpp.llama_token * 1)(found[-1]), ctypes.c_int32(past.value + number)
        batch = llama_cpp.llama_batch_get_one(token, 1)
        batch.pos = ctypes.pointer(position)
        assert not llama_cpp.llama_decode(context, batch)
    mtmd.mtmd_input_chunks_free(chunks)
    mtmd.mtmd_free(eyes)
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return found


@pytest.mark.parametrize("layout", ["split", "unified"])
@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_the_helper(engines: Engines, models: Models, kind: str, layout: str) -> None:
    engine = engines(kind, f"--kv-layout={layout}")
    for seeds in ([1], [2], [3, 4]):
        found, _ = asyncio.run(answered(engine, BEFORE, *seeds, AFTER))
        assert found == by_helper(models, kind, seeds), seeds


@pytest.mark.parametrize("layout", ["split", "unified"])
@pytest.mark.parametrize("kind", KINDS)
def test_together_they_are_what_they_are_alone(engines: Engines, kind: str, layout: str) -> None:
    engine = engines(kind, f"--kv-layout={layout}")
    prompts = [
        (BEFORE, 1, AFTER),
        (BEFORE, 2, AFTER),
        (BEFORE, 1, 2, AFTER),
        (BEFORE, AFTER),
        (3, AFTER),
        (BEFORE, 5, AFTER),
    ]

    few = 6  # later ones are nearly as likely as others, which rounding in another batch decides

    async def all_of_them() -> tuple[list[Any], list[Any]]:
        together = await asyncio.gather(*(answered(engine, *parts, tokens=few) for parts in [*prompts, *prompts]))
        return together, [await answered(engine, *parts, tokens=few) for parts in prompts]

    together, alone = asyncio.run(all_of_them())
    tokens = [found for found, _ in alone]
    assert [found for found, _ in together] == [*tokens, *tokens]
    # The demo model is so sure of its answers that not every picture makes another one of them.
    assert len({tuple(found) for found in tokens}) >= (len(tokens) if kind == "qwen2vl" else 2)


@pytest.mark.parametrize("layout", ["split", "unified"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_chat_goes_on_from_what_is_there(engines: Engines, models: Models, kind: str, layout: str) -> None:
    engine = engines(kind, f"--kv-layout={layout}")
    turns: tuple[int | str, ...] = (f"Turn {layout}: ", BEFORE, 1, 4, AFTER)
    later = (*turns, "It is noise.<|im_end|>\n<|im_start|>user\nAnd ", 2, AFTER)
    asyncio.run(answered(engine, *turns, tokens=1))
    found, cached = asyncio.run(answered(engine, *later))
    first, spans = asyncio.run(prompt(engine, *turns))
    assert cached >= spans[-1].end > 16, (cached, len(first))
    fresh = load(settings(models, kind, f"--kv-layout={layout}"), EngineMetrics("demo"), lambda _: None)
    try:
        assert asyncio.run(answered(fresh, *later)) == (found, 0)
    finally:
        fresh.close()


def test_a_picture_that_is_kept_no_longer_is_seen_by_who_knew_it(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chat of more pictures than are kept: the first of them, computed again, take the place of the last."""
    monkeypatch.setattr(f"{LlamaEyes.__module__}.KEPT_BYTES", 1)
    eyes = engines("llava").eyes

    async def all_of_them() -> None:
        assert eyes is not None
        new = [await eyes.glimpse(bytes([seed]), *SIZES[seed], noise(seed, *SIZES[seed]).tobytes()) for seed in (1, 2)]
        await eyes.see(new[0])
        known = eyes.known(bytes([1]))
        await eyes.see(new[1])
        assert known is not None and eyes.known(bytes([1])) is None
        assert [span.end for span in await eyes.see(known)] == [len(known.tokens)]

    asyncio.run(all_of_them())


def test_a_pool_that_is_too_small_gives_way_and_every_answer_is_right(engines: Engines, models: Models) -> None:
    alone = engines("qwen2vl", "--kv-layout=split")
    tight = engines("qwen2vl", "--kv-layout=unified", context_tokens=256, kv_tokens=256)
    prompts = [(BEFORE, seed, f"{number}", AFTER) for number, seed in enumerate((1, 2, 3, 4, 5, 3))]

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*(answered(tight, *parts, tokens=30) for parts in prompts))

    found = [tokens for tokens, _ in asyncio.run(all_of_them())]
    assert found == [asyncio.run(answered(alone, *parts, tokens=30))[0] for parts in prompts]


def test_a_client_that_leaves_leaves_nothing_wrong(engines: Engines) -> None:
    engine = engines("qwen2vl", "--kv-layout=unified")

    async def leave() -> None:
        begun = asyncio.Event()
        task = asyncio.ensure_future(answered(engine, BEFORE, 3, 3, AFTER, tokens=300, begun=begun))
        async with asyncio.timeout(60):
            await begun.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    before = asyncio.run(answered(engine, BEFORE, 3, AFTER))[0]
    asyncio.run(leave())
    assert asyncio.run(answered(engine, BEFORE, 3, AFTER))[0] == before


@pytest.mark.parametrize("flash", ["on", "off"])
@pytest.mark.parametrize("kind", KINDS)
def test_its_buffers_are_what_is_planned(models: Models, kind: str, flash: str) -> None:
    path, beside = models[kind]
    facts = inspect_model(LocalFiles(parse_uri(f"file://{path.parent}", path), None), [path.name, beside])
    assert facts.vision is not None and facts.vision.file == beside
    engine = load(settings(models, kind, f"--flash-attn={flash}"), EngineMetrics("demo"), lambda _: None)
    told = [buffer.bytes for buffer in buffers if buffer.part is Part.ENGINE][-1]
    weights = [line for line in engine.memory() if line.part is Part.WEIGHTS][-1]
    engine.close()
    planned = picture_buffer(facts.vision, LlamaOptions(scores=flash == "off"))
    assert told <= planned + (1 << 20) and planned <= 4 * told + (4 << 20), (told, planned)
    assert 0 <= weights.bytes - facts.vision.weight_bytes < 20_000


def test_a_projector_that_is_none_is_refused_and_the_model_served_without(models: Models, tmp_path: Path) -> None:
    demo, _ = models["llava"]
    (tmp_path / demo.name).symlink_to(demo)
    (tmp_path / "mmproj.gguf").write_bytes(demo.read_bytes())
    broken = replace(settings(models, "llava"), model_path=str(tmp_path / demo.name))
    with pytest.raises(UserError, match="--no-mmproj"):
        load(replace(broken, engine_args=("--mmproj=mmproj.gguf",)), EngineMetrics("demo"), lambda _: None)
    engine = load(replace(broken, engine_args=("--no-mmproj",)), EngineMetrics("demo"), lambda _: None)
    assert engine.eyes is None
    engine.close()
