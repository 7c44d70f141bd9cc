"""Names and replicas, as properties."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_gateway.relay import whole_events
from llmservice_gateway.routing import AmbiguousModelError, Backend, Table, UnknownModelError

LABELS = st.text("abc", min_size=1, max_size=2)
TABLES = st.sets(st.tuples(LABELS, LABELS), max_size=12).map(
    lambda pairs: Table({f"{namespace}/{name}": Backend(namespace, name) for namespace, name in pairs})
)
LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


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


@given(
    st.lists(
        st.tuples(st.sampled_from([b"data: x", b": waiting", b"a: b\rc: d", b"a: b\r\nc:"]), LINE_ENDS, LINE_ENDS)
    ),
    st.data(),
)
def test_events_are_passed_whatever_ends_their_lines_and_wherever_they_are_cut(
    events: list[tuple[bytes, bytes, bytes]], data: st.DataObject
) -> None:
    """As soon as the last byte of an event is there; of CR LF the CR is enough, the LF follows when it is there."""
    events = [(line, first, second) for line, first, second in events if first + second != b"\r\n"]  # one line end
    text, sent, rest = b"".join(map(b"".join, events)), b"", b""
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)))) | {0, len(text)})
    for start, end in pairwise(cuts):
        whole, rest = whole_events(rest + text[start:end])
        sent += whole
        assert sent + rest == text[:end]
        ends = [sum(len(b"".join(event)) for event in events[:n]) for n in range(len(events) + 1)]
        assert len(sent) in {at for end in ends for at in (end, end - (text[end - 2 : end] == b"\r\n"))}
        assert len(sent) >= max(at for at in ends if at <= end)
    assert text == sent


@given(st.lists(st.sampled_from([b"data: x\n\n", b": waiting\n\n"])), st.binary(max_size=12).map(lambda b: b + b"x"))
def test_events_are_passed_whole_and_nothing_is_lost(events: list[bytes], rest: bytes) -> None:
    data = b"".join(events) + rest
    whole, left = whole_events(data)
    assert whole + left == data
    assert not whole or whole.startswith(b"".join(events))
    assert b"\n\n" not in left


@given(TABLES, LABELS)
def test_an_alias_wins_over_a_bare_name_and_never_over_a_full_one(table: Table, name: str) -> None:
    for full, backend in table.backends.items():
        made = Table(table.backends, {name: full, full: "gone/gone"})
        assert made.resolve(name) is backend
        assert made.resolve(full) is backend


@given(TABLES, LABELS)
def test_an_alias_of_a_service_that_is_gone_means_no_other_one(table: Table, name: str) -> None:
    with pytest.raises(UnknownModelError):
        Table(table.backends, {name: "gone/gone"}).resolve(name)
