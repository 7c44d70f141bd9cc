"""The event encoder and the metrics recorder: what they write is read back as it was meant."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from llmservice_runtime.contract import metrics as names
from llmservice_runtime.openai.metrics import EngineMetrics, EngineStats, FinishedRequest
from llmservice_runtime.openai.usage import Usage
from llmservice_runtime.protocol.engine import Delta
from llmservice_runtime.wire.sse import Envelope, error_event

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def data(event: bytes) -> dict[str, object]:
    assert event.startswith(b"data: ") and event.endswith(b"\n\n")
    assert b"\n" not in event[:-2] and b"\r" not in event
    body: dict[str, object] = json.loads(event[6:])
    return body


@given(TEXT, TEXT)
def test_any_text_survives(text: str, model: str) -> None:
    envelope = Envelope("id", "kind", 1, model)
    chat = data(envelope.content(3, text))
    assert chat["model"] == model
    assert chat["choices"] == [{"index": 3, "delta": {"content": text}, "logprobs": None, "finish_reason": None}]
    assert data(envelope.text(0, text))["choices"] == [
        {"index": 0, "text": text, "logprobs": None, "finish_reason": None}
    ]
    assert data(error_event(text, "server_error", "c"))["error"] == {
        "message": text,
        "type": "server_error",
        "code": "c",
        "param": None,
    }


def test_cached_tokens_of_several_answers_count_once() -> None:
    usage = Usage(10)
    for index in range(3):
        usage.add(Delta(index, "x", [1], cached_tokens=8))
    assert usage.body() == {
        "prompt_tokens": 10,
        "completion_tokens": 3,
        "total_tokens": 13,
        "prompt_tokens_details": {"cached_tokens": 8},
    }


def samples(metrics: EngineMetrics) -> dict[tuple[str, str], float]:
    """(name, distinguishing label) -> value, as Prometheus reads the exposition."""
    found = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            labels = {k: v for k, v in sample.labels.items() if k not in ("model_name", "engine")}
            assert sample.labels["model_name"] == "apps/demo" and sample.labels["engine"] == "0"
            found[sample.name, ",".join(labels.values())] = sample.value
    return found


def test_metrics_carry_vllms_names_and_meanings() -> None:
    metrics = EngineMetrics("apps/demo")
    metrics.stats = lambda: EngineStats(2, 3, {"capacity": 3}, 0.25)
    metrics.step(100, 4, 0.02, 0.0002, [0.02, 0.3])
    metrics.prefilled(160, 60)
    metrics.first_token(0.06)
    metrics.prefix_cache(100, 60)
    metrics.preempted()
    metrics.rejected()
    record = FinishedRequest(
        "stop", 100, 5, arrived=10.0, scheduled=10.5, first_token=11.0, last_token=13.0, finished=13.0
    )
    metrics.request_finished(record)
    metrics.request_finished(FinishedRequest("abort", 5, 0, arrived=1.0, finished=2.0))
    found = samples(metrics)
    assert found[names.REQUESTS_RUNNING, ""] == 2
    assert found[names.REQUESTS_WAITING_BY_REASON, "capacity"] == 3
    assert found[names.KV_CACHE_USAGE, ""] == 0.25
    assert found[names.PROMPT_TOKENS + "_total", ""] == 160
    assert found[names.PROMPT_TOKENS_CACHED + "_total", ""] == 60
    assert found[names.ITERATION_TOKENS + "_sum", ""] == 104
    assert found[names.GENERATION_TOKENS + "_total", ""] == 4
    assert found[names.PREFIX_CACHE_HITS + "_total", ""] == 60
    assert found[names.REQUEST_SUCCESS + "_total", "abort"] == 1
    assert found[names.ADMISSION_REJECTIONS + "_total", "max_num_queued_reqs"] == 1
    assert found[names.QUEUE_TIME + "_sum", ""] == 0.5
    assert found[names.PREFILL_TIME + "_sum", ""] == 0.5
    assert found[names.DECODE_TIME + "_sum", ""] == 2.0
    assert found[names.TIME_PER_OUTPUT_TOKEN + "_sum", ""] == 0.5
    assert found[names.E2E_LATENCY + "_sum", ""] == 4.0
    assert found[names.E2E_LATENCY + "_count", ""] == 2
    assert found[names.TIME_TO_FIRST_TOKEN + "_bucket", "0.06"] == 1
    assert found[names.INTER_TOKEN_LATENCY + "_bucket", "0.2"] == 1
    assert found[names.INTER_TOKEN_LATENCY + "_bucket", "+Inf"] == 2
    metrics.clear()
    assert samples(metrics)[names.GENERATION_TOKENS + "_total", ""] == 0
