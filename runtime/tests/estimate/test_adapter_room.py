"""Room for adapters: what a plan keeps, what stays within it, and what can't be served whatever the room."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.engines.adapters import judge
from llmservice_runtime.engines.registry import config_classes, definition
from llmservice_runtime.engines.vllm.told import known
from llmservice_runtime.estimate.adapters import RANKS, AdapterFit, AdapterRoom, room_for
from llmservice_runtime.estimate.budget import Shape
from llmservice_runtime.formats.inspect import inspect_model
from llmservice_runtime.formats.lora import LoraFacts, LoraFormat, Target
from llmservice_runtime.machine.machine import Device
from llmservice_runtime.sources.local import LocalFiles
from llmservice_runtime.sources.uri import parse_uri

DEMO = Path(__file__).parents[2] / "demo" / "model"
MODEL = inspect_model(LocalFiles(parse_uri(f"file://{DEMO}", DEMO), None), classes=config_classes())
GGUF = inspect_model(LocalFiles(parse_uri(f"file://{DEMO}/demo-Q4_K_M.gguf", DEMO), None))
GOOD = LoraFacts(
    format=LoraFormat.PEFT,
    base="llmservice/demo",
    architecture="",
    rank=8,
    targets=(Target("k_proj", 256, 128), Target("o_proj", 256, 256), Target("q_proj", 256, 256)),
    layers=4,
    weight_bytes=1000,
    files=("adapter_config.json", "adapter_model.safetensors"),
    file_bytes=2000,
)
ROOM = AdapterRoom(4, 16)


@given(st.lists(st.integers(1, 600), max_size=40))
def test_a_room_holds_what_it_was_made_for_and_grows_in_steps(ranks: list[int]) -> None:
    room = room_for(ranks)
    assert room.holds(len(ranks), max(ranks, default=0))
    assert (room.count == 0) == (not ranks)
    if ranks:
        assert room.count in (4, 8, 16, 32, 64) and (room.rank in RANKS or room.rank > RANKS[-1])
        assert room_for(ranks, room) == room, "what stays within it changes nothing"
        assert room_for(ranks[1:], room) == room, "nor does taking one away"


def test_ranks_are_those_that_vllm_takes() -> None:
    assert set(RANKS) <= set(known().options["--max-lora-rank"].choices)


@pytest.mark.parametrize("engine", list(EngineType))
def test_a_good_one_fits_and_one_beyond_the_room_asks_for_more(engine: EngineType) -> None:
    model = GGUF if engine is EngineType.LLAMA_CPP else MODEL
    assert judge(GOOD, model, engine, ROOM, 4).fit is AdapterFit.FITS
    for verdict in (judge(GOOD, model, engine, ROOM, 5), judge(replace(GOOD, rank=17), model, engine, ROOM, 1)):
        assert (verdict.fit, verdict.failure) == (AdapterFit.NEEDS_ROOM, FailureClass.DOES_NOT_FIT)
        assert "new replicas" in verdict.reason
    assert judge(GOOD, model, engine, AdapterRoom(), 1).fit is AdapterFit.NEEDS_ROOM


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layers": 5}, "layer 4, the model has 4 layers"),
        ({"targets": (Target("q_proj", 512, 512),)}, "width 512, this one has 256"),
        ({"targets": (Target("down_proj", 768, 128),)}, "width 128, this one has 256"),
        ({"targets": (Target("k_proj", 256, 256),)}, "256 rows, this model's 128"),
        ({"targets": (Target("embed_tokens", 256, 2048),)}, "token embeddings"),
        ({"rank": 1024}, "1024"),
        ({"targets": (Target("wide", 256, 10**9),), "weight_bytes": 8 * 4 * 10**9}, "32.0 GB of weights"),
        ({"format": LoraFormat.GGUF, "architecture": "qwen2"}, "stored as GGUF"),
    ],
)
def test_what_no_room_helps(changes: dict[str, object], said: str) -> None:
    verdict = judge(replace(GOOD, **changes), MODEL, EngineType.TRANSFORMERS, ROOM, 1)  # type: ignore[arg-type]
    assert (verdict.fit, verdict.failure) == (AdapterFit.REFUSED, FailureClass.UNSUPPORTED_FORMAT)
    assert said in verdict.reason and verdict.remedy, verdict


def test_a_model_that_an_engine_loads_no_adapters_of_is_named() -> None:
    other = replace(MODEL, architecture="MambaForCausalLM")
    verdict = judge(GOOD, other, EngineType.VLLM, ROOM, 1)
    assert verdict.fit is AdapterFit.REFUSED and "MambaForCausalLM" in verdict.reason
    assert judge(GOOD, other, EngineType.TRANSFORMERS, ROOM, 1).fit is AdapterFit.FITS


def test_an_adapter_of_another_architecture_is_no_adapter_of_a_gguf() -> None:
    foreign = replace(GOOD, format=LoraFormat.GGUF, architecture="qwen2")
    verdict = judge(foreign, GGUF, EngineType.LLAMA_CPP, ROOM, 1)
    assert verdict.fit is AdapterFit.REFUSED and "qwen2" in verdict.reason and "llama" in verdict.reason


@pytest.mark.parametrize("engine", list(EngineType))
def test_room_is_in_the_plan_and_none_costs_nothing(engine: EngineType) -> None:
    model = GGUF if engine is EngineType.LLAMA_CPP else MODEL
    made = definition(engine)
    shape = Shape(Device.CPU, 2048, 8, 2048 * 8)

    def lines(room: AdapterRoom) -> dict[str, int]:
        memory = made.memory(made.adapter_arguments(room)).with_room(room)
        return {line.name: line.bytes for line in memory.lines(model, shape)}

    without, some, more = lines(AdapterRoom()), lines(ROOM), lines(AdapterRoom(8, 32))
    assert "adapters" not in without
    assert more["adapters"] == 4 * some["adapters"] > 0
    assert {name: size for name, size in some.items() if name != "adapters"} == without
    assert made.adapter_arguments(AdapterRoom()) == ()


def test_facts_are_read_back() -> None:
    assert LoraFacts.from_json(GOOD.to_json()) == GOOD
    for text in ("[]", "{}", GOOD.to_json().replace('"rank": 8', '"rank": "8"'), "[" * 100_000):
        with pytest.raises(ValueError, match="adapter"):
            LoraFacts.from_json(text)
