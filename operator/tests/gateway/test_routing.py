"""Names and replicas, as properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_gateway.proxy import whole_events
from llmservice_gateway.routing import AmbiguousModelError, Backend, Replica, Table, UnknownModelError, pick

LABELS = st.text("abc", min_size=1, max_size=2)
TABLES = st.sets(st.tuples(LABELS, LABELS), max_size=12).map(
    lambda pairs: Table({f"{namespace}/{name}": Backend(namespace, name) for namespace, name in pairs})
)
NAMES = [f"r{n}" for n in range(5)]


@given(TABLES)
def test_full_names_always_resolve_to_their_service(table: Table) -> None:
    for full, backend in table.backends.items():
        assert table.resolve(full) is backend


@given(TABLES, LABELS)
def test_a_bare_name_resolves_only_when_it_is_unique(table: Table, name: str) -> None:
    found = [backend for backend in table.backends.values() if backend.name == name]
    if len(found) == 1:
        assert table.resolve(name) is found[0]
    elif found:
        with pytest.raises(AmbiguousModelError) as caught:
            table.resolve(name)
        assert caught.value.candidates == tuple(sorted(backend.full_name for backend in found))
    else:
        with pytest.raises(UnknownModelError):
            table.resolve(name)


@given(st.dictionaries(st.sampled_from(NAMES), st.integers(0, 9)), st.sets(st.sampled_from(NAMES)))
def test_pick_takes_the_least_busy_that_may_be_asked(in_flight: dict[str, int], avoid: set[str]) -> None:
    replicas = [Replica(name, "") for name in NAMES]
    chosen = pick(replicas, in_flight, avoid)
    allowed = [name for name in NAMES if name not in avoid]
    if chosen is None:
        assert not allowed
    else:
        assert chosen.name in allowed
        assert in_flight.get(chosen.name, 0) == min(in_flight.get(name, 0) for name in allowed)


@given(st.lists(st.sampled_from([b"data: x\n\n", b": waiting\n\n"])), st.binary(max_size=12).map(lambda b: b + b"x"))
def test_events_are_passed_whole_and_nothing_is_lost(events: list[bytes], rest: bytes) -> None:
    data = b"".join(events) + rest
    whole, left = whole_events(data)
    assert whole + left == data
    assert not whole or whole.endswith(b"\n\n")
    assert b"\n\n" not in left
