"""Stop strings, partial characters, and the sampler's arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.engines.llamacpp.arguments import parse_args
from llmservice_runtime.generation.draw import Desk
from llmservice_runtime.generation.sampler import Sampler, logprob_of
from llmservice_runtime.generation.stops import TextStream
from llmservice_runtime.protocol.engine import SamplingParams

VOCAB = 1000
DESK = Desk(VOCAB)


@given(st.text("abé🙂", max_size=40), st.lists(st.text("abé🙂", min_size=1, max_size=4), max_size=3), st.data())
def test_stop_strings_are_never_leaked(text: str, stops: list[str], data: st.DataObject) -> None:
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=10)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    stream, out = TextStream(stops), ""
    for piece in pieces:
        out += stream.push(piece)
        if stream.stopped_by is not None:
            break
    else:
        out += stream.flush()
    assert text.startswith(out)
    assert not any(stop in out for stop in stops)
    assert (stream.stopped_by is None) == (not any(stop in text for stop in stops))
    if stream.stopped_by is None:
        assert out == text


def test_a_stop_string_is_included_on_request_and_passes_before_min_tokens() -> None:
    stream = TextStream(["END"], include_stop=True)
    assert stream.push(b"END", armed=False) == "END"
    assert stream.push(b"abEN") == "ab"
    assert stream.push(b"Dxyz") == "END"
    assert stream.stopped_by == "END"


@given(
    st.text("ab<c>", max_size=12), st.lists(st.text("ab<c>", min_size=1, max_size=3), min_size=1, max_size=3), st.data()
)
def test_no_stop_string_counts_from_a_shield_on(text: str, stops: list[str], data: st.DataObject) -> None:
    shield = "<c>"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    stream, out = TextStream(stops, shield=shield), ""
    for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True):
        out += stream.push(text[a:b].encode())
        if stream.stopped_by is not None:
            break
    else:
        out += stream.flush()
    found = [text.index(stop) for stop in stops if stop in text]
    at = text.find(shield)
    shielded = 0 <= at <= min(found, default=len(text))
    if shielded or not found:
        assert out == text and stream.stopped_by is None
    elif stream.stopped_by is not None:
        assert text.startswith(out) and not any(stop in out for stop in stops)


def sampler(prompt: list[int] | None = None, **fields: Any) -> Sampler:
    params = SamplingParams(**{"seed": 1, **fields})
    return Sampler(params, 0, np.array(prompt or [5], np.int32), VOCAB, [2])


def test_frequencies_follow_the_distribution() -> None:
    row = np.full(VOCAB, -30.0, np.float32)
    row[[10, 700]] = np.log([0.25, 0.75]).astype(np.float32)
    one = sampler()
    drawn = [one.choose(row, None, DESK) for _ in range(4000)]
    assert set(drawn) == {10, 700}
    assert drawn.count(700) / 4000 == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize(
    ("fields", "support"),
    [
        ({"top_k": 2}, {0, 1}),
        ({"top_p": 0.5}, {0}),
        ({"top_p": 0.76}, {0, 1, 2}),
        ({"min_p": 0.4}, {0, 1}),
        ({"top_k": 3, "logit_bias": {3: 100.0}}, {3}),
        ({"temperature": 0.0}, {0}),
        ({"temperature": 0.0, "logit_bias": {0: -100.0}}, {1}),
    ],
)
def test_narrowing(fields: dict[str, Any], support: set[int]) -> None:
    row = np.full(VOCAB, -40.0, np.float32)
    row[:4] = np.log([0.5, 0.25, 0.15, 0.1]).astype(np.float32)
    one = sampler(**fields)
    assert {one.choose(row, None, DESK) for _ in range(300)} == support


def test_penalties_count_what_they_say() -> None:
    row = np.zeros(VOCAB, np.float32)
    row[[5, 6]] = 2.0, 1.5
    assert sampler([5], temperature=0.0).choose(row, None, DESK) == 5
    assert sampler([5], temperature=0.0, repetition_penalty=2.0).choose(row, None, DESK) == 6
    presence = sampler([5], temperature=0.0, presence_penalty=1.0)
    assert presence.choose(row, None, DESK) == 5
    presence.accept(5)
    assert presence.choose(row, None, DESK) == 6


def test_min_tokens_forbids_the_end_and_a_mask_what_it_excludes() -> None:
    row = np.zeros(VOCAB, np.float32)
    row[[2, 3]] = 9.0, 8.0
    early = sampler(temperature=0.0, min_tokens=1)
    states = [early.plain]
    assert early.choose(row, None, DESK) == 3
    early.accept(3)
    states.append(early.plain)
    assert states == [False, True]
    barrier = np.full(VOCAB, -np.inf, np.float32)
    barrier[7] = 0
    assert sampler().choose(row, barrier, DESK) == 7


def test_the_same_seed_gives_the_same_tokens() -> None:
    row = np.random.default_rng(0).standard_normal(VOCAB).astype(np.float32)
    one, two, other = sampler(seed=3), sampler(seed=3), sampler(seed=4)
    first = [one.choose(row, None, DESK) for _ in range(20)]
    assert first == [two.choose(row, None, DESK) for _ in range(20)]
    assert first != [other.choose(row, None, DESK) for _ in range(20)]


def test_logprobs_are_of_the_whole_distribution() -> None:
    row = np.random.default_rng(0).standard_normal(VOCAB).astype(np.float32)
    got = logprob_of(row, 4, 3, lambda token: str(token).encode())
    exact = row - np.log(np.exp(row.astype(np.float64)).sum())
    assert got.logprob == pytest.approx(exact[4], abs=1e-5)
    assert [token for token, _, _ in got.top] == list(np.argsort(-row)[:3])


def test_engine_args_are_checked() -> None:
    assert parse_args(["--kv-type", "q8_0", "--threads", "3"]).threads == 3
    with pytest.raises(UserError, match=r"--frobnicate.*--kv-type"):
        parse_args(["--frobnicate"])
    with pytest.raises(UserError, match="needs flash attention"):
        parse_args(["--kv-type", "q8_0", "--flash-attn", "off"])
