"""Whose text is computed next, and what becomes of requests that end early."""

from __future__ import annotations

import asyncio
import sys
import threading
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.contract import metrics as names
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.openai.metrics import EngineMetrics
from llmservice_runtime.pooling.engine import PoolingEngine
from llmservice_runtime.pooling.queue import BATCH_TEXTS, TEXTS, Job, Turns
from llmservice_runtime.protocol.engine import QueueFullError
from llmservice_runtime.protocol.pooling import NoNumbersError, PoolInput, Traits, Vector


def job(*lengths: int, batch: bool = False) -> Job:
    return Job([PoolInput([0] * length) for length in lengths], lambda error: None, 0.0, batch)


def test_tokens_that_wait_take_little_room() -> None:
    tokens = PoolInput(list(range(1000, 5000))).tokens
    assert list(tokens) == [*range(1000, 5000)] and sys.getsizeof(tokens) < 5 * len(tokens)


def test_a_long_list_keeps_nobody_waiting() -> None:
    turns = Turns(100, padded=False)
    turns.add(long := job(*[10] * 500))
    turns.add(short := job(10))
    assert (short, 0) in turns.take()
    assert len(long.left) == 500 - 9


def test_batch_work_is_computed_where_no_live_text_waits_and_in_small_steps() -> None:
    turns = Turns(1000, padded=False)
    turns.add(work := job(*[1] * 20, batch=True))
    assert turns.take() == [(work, number) for number in range(BATCH_TEXTS)]
    turns.add(live := job(*[1] * 80))
    assert [len(turns.take()), len(turns.take())] == [TEXTS, 80 - TEXTS] and not live.left
    assert turns.take()[0] == (work, BATCH_TEXTS)
    work.cancelled = True
    turns.drop_cancelled()
    assert not len(turns)


@given(st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=30), min_size=1, max_size=8), st.booleans())
def test_every_text_is_computed_once_and_no_step_is_too_large(requests: list[list[int]], padded: bool) -> None:
    turns, jobs, taken = Turns(100, padded=padded), [job(*lengths) for lengths in requests], list[tuple[int, int]]()
    for one in jobs:
        turns.add(one)
    while len(turns):
        step = turns.take()
        lengths = [len(one.inputs[number].tokens) for one, number in step]
        size = max(lengths) * len(lengths) if padded else sum(lengths)
        assert 1 <= len(step) <= TEXTS and (size <= 100 or len(step) == 1)
        taken += [(jobs.index(one), number) for one, number in step]
    assert sorted(taken) == [(one, number) for one, lengths in enumerate(requests) for number in range(len(lengths))]


class Model:
    """Tells how long a text is; waits for `go` where it is given."""

    traits, step_tokens, padded, tokenizer = Traits(1), 100, False, None

    def __init__(self, fails: bool = False) -> None:
        self.go, self.begun, self.fails = threading.Event(), threading.Event(), fails
        self.computed = 0
        self.number = 1.0
        self.go.set()

    def compute(self, inputs: Sequence[PoolInput]) -> Sequence[Vector]:
        self.begun.set()
        self.go.wait()
        if self.fails:
            raise RuntimeError("broken")
        self.computed += len(inputs)
        with np.errstate(over="ignore"):
            return [array("f", [float(np.float32(self.number * len(each.tokens)))]) for each in inputs]

    def held(self) -> Sequence[Any]:
        return ()

    def close(self) -> None:
        self.go.clear()


def engine(model: Model, metrics: EngineMetrics | None = None) -> PoolingEngine:
    settings = RuntimeSettings(EngineType.LLAMA_CPP, "/m", "m", max_sequences=1, max_queued_requests=1)
    return PoolingEngine(model, settings, metrics or EngineMetrics("m"))  # type: ignore[arg-type]


def texts(*lengths: int) -> list[PoolInput]:
    return [PoolInput([0] * length) for length in lengths]


async def test_vectors_come_in_the_order_of_their_texts() -> None:
    pooler = engine(Model())
    assert [vector[0] for vector in await pooler.pool(texts(3, 90, 1, 50))] == [3, 90, 1, 50]
    pooler.close()


async def test_who_leaves_takes_the_rest_along_and_too_many_are_refused() -> None:
    pooler = engine(model := Model())
    model.go.clear()
    first = asyncio.ensure_future(pooler.pool(texts(*[100] * 50)))
    await asyncio.to_thread(model.begun.wait)
    second = asyncio.ensure_future(pooler.pool(texts(5)))
    await asyncio.sleep(0)
    with pytest.raises(QueueFullError):
        await pooler.pool(texts(5))
    first.cancel()
    await asyncio.wait([first])
    model.go.set()
    assert [vector[0] for vector in await second] == [5]
    assert model.computed <= 3
    pooler.close()


async def test_batch_work_takes_no_live_requests_place_and_its_times_are_not_counted() -> None:
    model, metrics = Model(), EngineMetrics("m")
    pooler = engine(model, metrics)
    model.go.clear()
    work = [asyncio.ensure_future(pooler.pool(texts(5), batch=True)) for _ in range(2)]
    await asyncio.to_thread(model.begun.wait)
    with pytest.raises(QueueFullError):
        await pooler.pool(texts(5), batch=True)
    live = asyncio.ensure_future(pooler.pool(texts(5)))
    await asyncio.sleep(0)
    model.go.set()
    await asyncio.gather(live, *work)
    found = {sample.name: sample.value for metric in metrics.collect() for sample in metric.samples}
    assert found[f"{names.E2E_LATENCY}_count"] == 1
    pooler.close()


async def test_a_step_that_fails_is_told_to_who_was_in_it_and_others_go_on() -> None:
    pooler = engine(model := Model(fails=True))
    with pytest.raises(RuntimeError, match="broken"):
        await pooler.pool(texts(5))
    model.fails = False
    assert [vector[0] for vector in await pooler.pool(texts(5))] == [5]
    pooler.close()


async def test_what_is_no_number_is_an_error_that_tells_the_text() -> None:
    pooler = engine(model := Model())
    model.number = 1e38
    with pytest.raises(NoNumbersError, match="text 1 "):
        await pooler.pool(texts(1, 20, 2))
    model.number = 1.0
    assert [vector[0] for vector in await pooler.pool(texts(6))] == [6]
    pooler.close()
