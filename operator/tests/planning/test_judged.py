"""What a plan makes of adapters, as properties."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from llmservice_planning.adapters import judged, room_wanted, why_not
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.estimate.adapters import AdapterRoom
from llmservice_runtime.formats.facts import LayerGroup, LayerKind, ModelFacts, ModelFormat, Task
from llmservice_runtime.formats.lora import LoraFacts, LoraFormat, Target

MODEL = ModelFacts(
    format=ModelFormat.SAFETENSORS,
    architecture="LlamaForCausalLM",
    model_type="llama",
    task=Task.CHAT,
    quantization=None,
    dtype="bfloat16",
    parameters=10**9,
    context_tokens=8192,
    layers=(LayerGroup(LayerKind.FULL, 16, 8, 128, 128),),
    hidden_size=2048,
    attention_heads=16,
    vocab_size=32000,
    weight_bytes=2 * 10**9,
    layer_weight_bytes=(),
    files=("model.safetensors",),
    file_bytes=2 * 10**9,
    has_chat_template=True,
    has_tokenizer=True,
)
ENGINE = EngineType.VLLM
OURS = LoraFacts(LoraFormat.PEFT, "acme/base", "", 8, (Target("q_proj", 2048, 2048),), 16, 1 << 20, ("x",), 1 << 20)
FOREIGN = dataclasses.replace(OURS, layers=99, base="acme/larger")
ADAPTERS = st.lists(st.tuples(st.booleans(), st.sampled_from([4, 8, 16, 33, 64, 128])), max_size=12).map(
    lambda found: {
        f"a{number}": dataclasses.replace(OURS if ours else FOREIGN, rank=rank)
        for number, (ours, rank) in enumerate(found)
    }
)
ROOMS = st.builds(AdapterRoom, st.integers(0, 8), st.sampled_from([0, 8, 16, 64]))


@given(ADAPTERS)
def test_the_room_that_is_made_holds_all_that_the_model_can_have(adapters: dict[str, LoraFacts]) -> None:
    room = room_wanted(adapters, MODEL, ENGINE)
    made = judged(adapters, MODEL, ENGINE, room)
    assert not made.beyond
    assert set(made.refused) == {name for name, facts in adapters.items() if facts.layers == 99}
    assert (room == AdapterRoom()) == (len(made.refused) == len(adapters)), "a foreign one makes no room"


@given(ADAPTERS, ROOMS)
def test_what_goes_into_a_room_stays_within_it(adapters: dict[str, LoraFacts], room: AdapterRoom) -> None:
    made = judged(adapters, MODEL, ENGINE, room)
    inside = [facts for name, facts in adapters.items() if name not in made.beyond and name not in made.refused]
    assert len(inside) <= room.count and all(facts.rank <= room.rank for facts in inside)
    assert not set(made.beyond) & set(made.refused)
    served = {*adapters} - {*made.beyond}
    again = judged(dict(reversed(adapters.items())), MODEL, ENGINE, room, served)
    assert not served & set(again.beyond), "who is served stays so, whatever stands before it"
    fit = [facts for name, facts in adapters.items() if name not in made.refused and facts.rank <= room.rank]
    assert len(inside) == min(len(fit), room.count), "who does not fit takes nobody's place"


def test_why_one_is_refused_says_what_to_do() -> None:
    verdict = judged({"a": FOREIGN}, MODEL, ENGINE, AdapterRoom(4, 16)).refused["a"]
    reason, said = why_not(verdict)
    assert reason is FailureClass.UNSUPPORTED_FORMAT and "acme/larger" in said and said.endswith("this very model.")
