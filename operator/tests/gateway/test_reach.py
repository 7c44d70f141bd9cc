"""Replicas that can't be connected to, and places that several gateways share."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
from gateway_world import World, answer, raw_server  # type: ignore[import-not-found]
from hypothesis import given
from hypothesis import strategies as st

from llmservice_gateway import reach
from llmservice_gateway.places import Capacity
from llmservice_gateway.reach import FAILURES, SECONDS, Reach
from llmservice_gateway.routing import Backend, Replica


def test_it_is_left_out_after_two_failures_in_a_row_and_tried_again_later() -> None:
    found = Reach()
    found.failed("a", 0.0)
    assert not found.lost("a", 0.0)
    found.reached("a")
    found.failed("a", 1.0)
    assert not found.lost("a", 1.0)
    found.failed("a", 2.0)
    assert found.lost("a", 2.0 + SECONDS / 2) and not found.lost("a", 2.0 + SECONDS) and not found.lost("b", 2.0)
    found.failed("a", 2.0 + SECONDS)
    assert found.lost("a", 2.0 + SECONDS)
    found.keep({"b"})
    assert not found.lost("a", 2.0 + SECONDS)


async def test_a_replica_that_refuses_connections_is_asked_no_more_while_another_one_is_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "SECONDS", 1e9)  # however long the requests take
    async with AsyncExitStack() as stack:
        gone = await raw_server(stack, lambda reader, writer: writer.drain())
    engine = await world.runtime(answer())
    world.publish(Backend("apps", "demo", (Replica("gone", gone), Replica("here", engine.url))))
    retries = []
    for number in range(40):
        response = await world.chat(messages=[{"role": "user", "content": str(number)}])
        assert response.status == 200
        retries.append(world.lines[-1].count(b'"retries"'))
    assert sum(retries) == FAILURES and len(engine.seen) == 40
    world.publish(Backend("apps", "demo", (Replica("gone", gone),)))
    response = await world.chat()
    assert response.status == 503, "with no other one it is still tried"


@given(st.integers(0, 500), st.integers(0, 10**6), st.lists(st.floats(0.001, 1), min_size=1, max_size=5))
def test_parts_of_a_replica_give_each_gateway_a_place_and_no_more_than_a_few_too_many(
    sequences: int, tokens: int, wanted: list[float]
) -> None:
    whole = Capacity(sequences, tokens)
    parts = [whole.part(each / sum(wanted)) for each in wanted]
    assert sequences <= sum(part.sequences for part in parts) + 1e-6 or not sequences
    assert sum(part.sequences for part in parts) < sequences + len(parts) or not sequences
    assert all(part.sequences for part in parts) == bool(sequences)
    assert whole.part(1.0) == whole
