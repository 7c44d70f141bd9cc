"""What fetches an adapter for a replica: its report, and why it refuses; in the words of spec.adapters."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.failure import FailureClass, FailureRecord
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.prepare.adapter import AdapterRequest, PreparedAdapter, report

RUNTIME = Path(__file__).parents[2]
DEMO = RUNTIME / "demo" / "model"
POLITE = RUNTIME / "demo" / "adapters" / "polite"
SETTINGS = RuntimeSettings(EngineType.TRANSFORMERS, str(DEMO), "demo", adapter_count=4, adapter_rank=16)
ASKED = AdapterRequest("polite", f"file://{POLITE}", None, settings=SETTINGS)


def refused(request: AdapterRequest) -> FailureRecord:
    code, text = report(request)
    assert code
    return FailureRecord.from_json(text)


@pytest.mark.parametrize("model", [DEMO, DEMO / "demo-Q4_K_M.gguf"])
def test_a_good_one(model: Path) -> None:
    engine = EngineType.LLAMA_CPP if model.is_file() else EngineType.VLLM
    code, text = report(replace(ASKED, settings=replace(SETTINGS, engine=engine, model_path=str(model))))
    assert code == 0, text
    found = PreparedAdapter.from_json(text)
    assert (found.facts.rank, found.facts.layers, found.path) == (4, 4, str(POLITE))


def test_one_for_another_model_names_both(tmp_path: Path) -> None:
    (config := tmp_path / "adapter_config.json").write_bytes((POLITE / config.name).read_bytes())
    weights = bytearray((POLITE / "adapter_model.safetensors").read_bytes())
    length = int.from_bytes(weights[:8], "little")
    header = json.loads(weights[8 : 8 + length])
    for name in [name for name in header if "layers.3" in name]:
        header[name.replace("layers.3", "layers.9")] = header.pop(name)
    text = json.dumps(header).encode()
    (tmp_path / "adapter_model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + weights[8 + length :])
    record = refused(replace(ASKED, uri=f"file://{tmp_path}"))
    assert record.failure is FailureClass.UNSUPPORTED_FORMAT
    assert "spec.adapters[polite]" in record.message and "layer 9" in record.message, record
    assert "llmservice/demo" in record.message, "the base that it names"


def test_a_rank_beyond_the_room() -> None:
    record = refused(replace(ASKED, settings=replace(SETTINGS, adapter_rank=2)))
    assert (record.failure, "rank" in record.message) == (FailureClass.DOES_NOT_FIT, True), record


@pytest.mark.parametrize(
    ("changes", "failure", "said"),
    [
        ({"uri": "file:///nowhere"}, FailureClass.MODEL_NOT_FOUND, "spec.adapters[polite].uri"),
        ({"uri": "http://127.0.0.1:9/x"}, FailureClass.BAD_ARGUMENT, "inside this network"),
        ({"uri": f"file://{DEMO}"}, FailureClass.UNSUPPORTED_FORMAT, "is a model"),
        ({"secret": Path("/secrets/none")}, FailureClass.BAD_ARGUMENT, "/secrets/none"),
        ({"uri": "nonsense"}, FailureClass.BAD_ARGUMENT, "no scheme"),
    ],
)
def test_what_can_not_be_brought(changes: dict[str, object], failure: FailureClass, said: str) -> None:
    record = refused(replace(ASKED, **changes))  # type: ignore[arg-type]
    assert record.failure is failure and said in record.message, record
    assert "spec.model" not in record.message + record.remedy
