"""Many clients, clients that leave, and what the metrics make of it all."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

from llmservice_runtime.contract import metrics as names

from .api import CHAT, MESSAGES, TEXT, Api
from .engines import ALIAS, NAME
from .replica import Replica

COUNTERS = (
    names.PROMPT_TOKENS,
    names.GENERATION_TOKENS,
    names.REQUEST_SUCCESS,
    names.PREEMPTIONS,
    names.PREFIX_CACHE_QUERIES,
    names.PREFIX_CACHE_HITS,
)
GAUGES = (names.REQUESTS_RUNNING, names.REQUESTS_WAITING, names.KV_CACHE_USAGE)
HISTOGRAMS = (
    names.TIME_TO_FIRST_TOKEN,
    names.INTER_TOKEN_LATENCY,
    names.TIME_PER_OUTPUT_TOKEN,
    names.E2E_LATENCY,
    names.QUEUE_TIME,
    names.INFERENCE_TIME,
    names.PREFILL_TIME,
    names.DECODE_TIME,
)


def until(what: Callable[[], bool], seconds: float = 60.0) -> None:
    """Until it is so."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"not in {seconds} s"
        time.sleep(0.05)


def _idle(api: Api) -> bool:
    metrics = api.metrics()
    return metrics.value(names.REQUESTS_RUNNING) + metrics.value(names.REQUESTS_WAITING) == 0


def test_metrics_have_vllms_names_and_labels(api: Api) -> None:
    api.complete(max_tokens=4, ignore_eos=True)
    metrics = api.metrics()
    wanted = {f"{name}_total" for name in COUNTERS} | set(GAUGES)
    wanted |= {f"{name}_{part}" for name in HISTOGRAMS for part in ("bucket", "sum", "count")}
    assert wanted <= metrics.names, wanted - metrics.names
    for name in wanted:
        assert metrics.value(name, f'model_name="{NAME}"', 'engine="0"') == metrics.value(name)


def test_the_metrics_add_up_to_what_the_client_saw(api: Api) -> None:
    until(lambda: _idle(api))
    before = api.metrics()
    bodies = [
        api.chat(),
        api.chat(model=ALIAS, max_tokens=3),
        api.complete(max_tokens=9, ignore_eos=True),
        api.complete(prompt=["What is", "Hello"], max_tokens=5, ignore_eos=True),
    ]
    *_, last = api.chunks(TEXT, max_tokens=7, ignore_eos=True, stream_options={"include_usage": True})
    usages = [body["usage"] for body in (*bodies, last)]
    reasons = ["stop"] + 5 * ["length"]
    until(
        lambda: (
            api.metrics().value(f"{names.REQUEST_SUCCESS}_total") >= before.value(f"{names.REQUEST_SUCCESS}_total") + 6
        )
    )
    after = api.metrics()

    def grown(name: str, *labels: str) -> float:
        return after.value(name, *labels) - before.value(name, *labels)

    assert grown(f"{names.PROMPT_TOKENS}_total") == sum(usage["prompt_tokens"] for usage in usages)
    assert grown(f"{names.GENERATION_TOKENS}_total") == sum(usage["completion_tokens"] for usage in usages)
    for reason in ("stop", "length"):
        assert grown(f"{names.REQUEST_SUCCESS}_total", f'finished_reason="{reason}"') == reasons.count(reason)
    for name in (names.TIME_TO_FIRST_TOKEN, names.E2E_LATENCY, names.QUEUE_TIME):
        assert grown(f"{name}_count") == len(reasons), name
    assert grown(f"{names.E2E_LATENCY}_sum") >= grown(f"{names.TIME_TO_FIRST_TOKEN}_sum") > 0


def test_a_client_that_hangs_up_frees_its_place(api: Api, replica: Replica) -> None:
    with replica.slowed(), ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(api.begun(CHAT, _endless()))
        # Of those that run, one may have to wait again while the others grow.
        until(lambda: api.metrics().value(names.REQUESTS_WAITING) >= 4)
    until(lambda: _idle(api))
    assert api.chat()["usage"]["completion_tokens"] > 0


def test_a_client_that_hangs_up_before_its_answer_frees_its_place(api: Api, replica: Replica) -> None:
    """Not streamed: nothing of it is written before its end."""
    with replica.slowed(), ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(api.begun(CHAT, {**_endless(), "stream": False}))
        until(lambda: api.metrics().value(names.REQUESTS_RUNNING) == 3)
    until(lambda: _idle(api))
    until(lambda: (replica.status()["running"], replica.status()["waiting"]) == (0, 0))


def test_the_supervisor_sees_what_runs(api: Api, replica: Replica) -> None:
    steps = replica.status()["steps"]
    with replica.slowed(), ExitStack() as stack:
        for _ in range(12):  # so many that they are not done before it is told, once a second
            stack.enter_context(api.endless())
        until(lambda: replica.status()["running"] > 0 and replica.status()["steps"] > steps)
        assert replica.probe("/livez")[0] == replica.probe("/readyz")[0] == 200
    until(lambda: replica.status()["running"] == 0)


def test_what_a_client_has_not_sent_yet_is_no_work_that_must_move_on(api: Api, replica: Replica) -> None:
    """Its body may take longer than any step: that is no reason to end the replica."""
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
    with replica.slowed(), api.connected(head), ExitStack() as stack:
        for _ in range(12):  # what is told while they run was told after the head came
            stack.enter_context(api.endless())
        until(lambda: (told := replica.status())["running"] > 0 and told["waiting"] == 0)
    until(lambda: replica.status()["running"] == 0)


def _endless() -> dict[str, object]:
    return {"messages": MESSAGES, "stream": True, "ignore_eos": True, "max_tokens": 1900}
