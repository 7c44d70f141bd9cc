"""The end of replicas, the last of all: one that stops moving, one that is killed, one that is told to stop."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from llmservice_runtime.contract import metrics as names
from llmservice_runtime.contract.engines import EngineType

from .api import ANSWER, CHAT, MESSAGES, Api, until_the_end
from .replica import LOAD_SECONDS, Replica
from .test_load import until

ENDLESS = {"messages": MESSAGES, "stream": True, "ignore_eos": True, "max_tokens": 1900}


@pytest.fixture(scope="module")
def small(engine: EngineType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """Runs two requests, queues two, notices at once, and is started again when its engine ends."""
    made = Replica(
        tmp_path_factory.mktemp("small"),
        engine,
        restart=True,
        max_sequences=2,
        max_queued_requests=2,
        drain_seconds=0,
    )
    try:
        made.wait_ready()
        yield made
    finally:
        made.stop()


def test_an_engine_that_stops_moving_fails_liveness_and_recovers(replica: Replica) -> None:
    api = Api(replica.url)
    with ExitStack() as stack:
        with replica.slowed():
            answer, *_ = [stack.enter_context(api.endless(**limit)) for limit in ({"max_tokens": 1000}, *[{}] * 11)]
            replica.wait_for(lambda: bool(replica.status()["running"]))
        computing = replica.computing()
        os.kill(computing, signal.SIGSTOP)
        try:
            replica.wait_for(lambda: replica.probe("/livez")[0] == 503)
            assert replica.probe("/readyz")[0] == 503 and "NoProgress" in replica.probe("/livez")[1]
            record = replica.record
            assert record["failure"] == "NoProgress" and "no step was completed" in record["message"], record
        finally:
            os.kill(computing, signal.SIGCONT)
        replica.wait_for(lambda: replica.probe("/livez")[0] == replica.probe("/readyz")[0] == 200)
        assert b"".join(until_the_end(answer)).endswith(b"data: [DONE]\n\n"), "whoever waited gets all of it"
    assert not replica.record_file.read_text(), "nothing is wrong any more"


def test_a_stream_that_finishes_in_time_ends_well_and_new_work_is_refused(replica: Replica) -> None:
    """The replica that the other tests used ends here."""
    api = Api(replica.url)
    with ExitStack() as stack:
        with replica.slowed():
            # So many that they are not done before it was looked at them.
            answer, *_ = [stack.enter_context(api.endless(max_tokens=800)) for _ in range(12)]
            replica.process.send_signal(signal.SIGTERM)
            replica.wait_for(lambda: replica.probe("/readyz") == (503, "draining\n"))
            assert replica.probe("/livez")[0] == 200
            until(lambda: api.send("/health").status == 503)
            refused = api.send(CHAT, {"messages": MESSAGES})
        assert (refused.status, refused.error["code"]) == (503, "draining")
        assert 1 <= int(refused.headers["retry-after"]) <= 120 and refused.headers["x-should-retry"] == "true"
        lines = [line.decode().strip() for line in until_the_end(answer) if line.strip()]
    assert lines[-1] == "data: [DONE]" and not any('"error"' in line for line in lines)
    reasons = [json.loads(line[6:])["choices"][0]["finish_reason"] for line in lines[:-1]]
    assert [reason for reason in reasons if reason] == ["length"]
    assert replica.process.wait(60) == 0 and not replica.everything()


def two_wait(api: Api, seconds: float = 15.0) -> bool:
    """Whether two were seen to wait before all was said, which vLLM's core does in a few seconds."""
    end, ran = time.monotonic() + seconds, False
    while time.monotonic() < end:
        metrics = api.metrics()
        running = metrics.value(names.REQUESTS_RUNNING)
        if metrics.value(names.REQUESTS_WAITING) == 2:
            return True
        if ran and not running:
            return False
        ran = ran or running > 0
    return False


def test_more_than_runs_and_waits_is_told_to_come_back(small: Replica) -> None:
    api = Api(small.url)
    rejected = api.metrics().value(f"{names.ADMISSION_REJECTIONS}_total")
    for _ in range(10):
        with small.slowed(), api.endless(), api.endless(), api.begun(CHAT, ENDLESS), api.begun(CHAT, ENDLESS):
            seen = two_wait(api)
            for stream in (True, False) if seen else ():
                reply = api.send(CHAT, {"messages": MESSAGES, "stream": stream})
                told = (reply.status, reply.error["code"], reply.error["type"])
                assert told == (429, "queue_full", "rate_limit_error")
                assert 1 <= int(reply.headers["retry-after"]) <= 120 and reply.headers["x-should-retry"] == "true"
            assert api.send("/health").status == 200 and small.probe("/livez")[0] == 200, "full is not broken"
            assert api.metrics().value(f"{names.ADMISSION_REJECTIONS}_total") == rejected + 2 * seen
        until(lambda: api.metrics().value(names.REQUESTS_RUNNING) == 0)
        if seen:
            break
    else:
        pytest.fail("four requests at a time never filled two places and a queue of two")
    assert api.say() == ANSWER


def test_more_answers_than_run_and_wait_are_refused_for_good(small: Replica) -> None:
    error = Api(small.url).refused(CHAT, {"messages": MESSAGES, "n": 5})
    assert (error["param"], error["code"]) == ("n", "invalid_value") and " 4" in error["message"]


def test_an_engine_that_is_killed_tells_its_clients_and_comes_back(small: Replica) -> None:
    api = Api(small.url)
    with small.slowed(), api.endless() as answer, api.begun(CHAT, ENDLESS):
        os.kill(small.computing(), signal.SIGKILL)
        rest = b"".join(until_the_end(answer))
    assert b"[DONE]" not in rest, "nobody takes this for a whole answer"
    small.wait_for(lambda: small.status()["restarts"] == 1, LOAD_SECONDS)
    assert small.record["failure"] == "Crashed", small.record
    assert small.record["message"] and small.record["remedy"]
    small.wait_ready()
    small.wait_for(lambda: small.probe("/readyz")[0] == 200, LOAD_SECONDS)
    assert Api(small.url).say() == ANSWER
    assert "llmservice:engine_restarts_total" in small.probe("/metrics")[1]
    assert small.status()["last_failure"]["failure"] == "Crashed"


def test_a_stream_that_outlasts_the_drain_ends_with_an_error(small: Replica) -> None:
    """The second replica ends here; it gives no time at all."""
    api = Api(small.url)
    with ThreadPoolExecutor(1) as pool, small.slowed(), api.endless(max_tokens=2000) as answer:
        whole = pool.submit(api.send, CHAT, {**ENDLESS, "stream": False, "max_tokens": 2000})
        # What the server has not told yet, however far vLLM's core is ahead of it.
        small.wait_for(lambda: (told := small.status())["running"] + told["waiting"] == 2)
        small.process.send_signal(signal.SIGTERM)
        lines = [line.decode().strip() for line in until_the_end(answer) if line.strip()]
        refused = whole.result(60)
    error = json.loads(lines[-1].removeprefix("data: "))["error"]
    assert error["code"] == "draining" and error["message"] and error["type"], error
    assert "data: [DONE]" not in lines
    assert (refused.status, refused.error["code"]) == (503, "draining")
    assert small.process.wait(60) == 0 and not small.everything()
