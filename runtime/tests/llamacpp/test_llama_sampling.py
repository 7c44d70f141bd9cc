"""Which tokens may come and how often: against the definitions, computed the slow way in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmservice_runtime.generation.arrays import Floats
from llmservice_runtime.generation.draw import Desk, largest
from llmservice_runtime.generation.penalties import Penalties
from llmservice_runtime.generation.sampler import NoTokenError, Sampler
from llmservice_runtime.protocol.engine import SamplingParams

VOCAB = 2_000
DESK = Desk(VOCAB)
DRAWS = 6_000
NO_PROMPT = np.empty(0, np.int32)


def sampler(index: int = 0, /, **fields: Any) -> Sampler:
    return Sampler(SamplingParams(**{"seed": 11, **fields}), index, NO_PROMPT, VOCAB, [2])


def logits(kind: str) -> Floats:
    """`flat` has hundreds of likely tokens, `peaked` a handful, `ties` whole shelves of equal ones."""
    random = np.random.default_rng(5)
    if kind == "flat":
        return random.standard_normal(VOCAB).astype(np.float32)
    row = (2 * random.standard_normal(VOCAB) - 12).astype(np.float32)
    row[100:120] = np.linspace(3, 0, 20) if kind == "peaked" else np.repeat([2.0, 1.0], 10)
    return row


def expected(row: Floats, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0) -> Any:
    """Probabilities (VOCAB,) by the definitions."""
    weights = np.exp((row.astype(np.float64) - row.max()) / temperature)
    weights[weights < min_p] = 0
    order = np.argsort(-weights, kind="stable")
    if top_k:
        weights[order[top_k:]] = 0
    weights /= weights.sum()
    before = np.cumsum(weights[order]) - weights[order]
    weights[order[(before >= top_p) & (before > 0)]] = 0
    return weights / weights.sum()


def distance(counts: npt.NDArray[np.int64], chances: npt.NDArray[np.float64]) -> float:
    """Chi-square in standard deviations from its mean; rare tokens are counted together."""
    often = chances * DRAWS >= 8
    seen = np.append(counts[often], counts[~often].sum())
    wanted = np.append(chances[often], chances[~often].sum()) * DRAWS
    seen, wanted = seen[wanted > 1], wanted[wanted > 1]
    freedom = max(seen.size - 1, 1)
    return float((((seen - wanted) ** 2 / wanted).sum() - freedom) / np.sqrt(2 * freedom))


@pytest.mark.parametrize("kind", ["flat", "peaked", "ties"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"temperature": 0.7},
        {"temperature": 1.6},
        {"top_p": 0.9},
        {"top_p": 0.3, "temperature": 0.8},
        {"top_k": 7},
        {"top_k": 300, "top_p": 0.8},
        {"min_p": 0.2},
        {"min_p": 0.05, "top_k": 15, "top_p": 0.9},
    ],
    ids=str,
)
def test_frequencies_are_those_of_the_definition(kind: str, fields: dict[str, Any]) -> None:
    row = logits(kind)
    chances = expected(row, **fields)
    one = sampler(**fields)
    counts = np.bincount([one.choose(row, None, DESK) for _ in range(DRAWS)], minlength=VOCAB)
    assert counts[chances == 0].sum() == 0
    assert distance(counts, chances) < 4.5


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.05, 0.99), st.floats(0.3, 2.0), st.floats(0.5, 6.0))
def test_top_p_keeps_the_smallest_set(seed: int, top_p: float, temperature: float, width: float) -> None:
    row = (width * np.random.default_rng(seed).standard_normal(VOCAB)).astype(np.float32)
    one = sampler(top_p=top_p, temperature=temperature)
    drawn = {one.choose(row, None, DESK) for _ in range(40)}
    # A boundary within float32's rounding may fall on either side.
    assert drawn <= set(np.flatnonzero(expected(row, temperature, top_p=min(1.0, top_p + 1e-5))))


@given(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=1500), st.integers(1, 1600))
def test_the_k_largest_are_those_of_a_stable_sort(values: list[float], k: int) -> None:
    array = np.array(values, np.float32)
    assert list(largest(array, k)) == list(np.argsort(-array, kind="stable")[:k])


def test_the_k_largest_of_many() -> None:
    array = np.random.default_rng(1).standard_normal(32_123).astype(np.float32)
    for k in (1, 40, 128, 129, 5000):
        assert list(largest(array, k)) == list(np.argsort(-array, kind="stable")[:k])


def test_no_temperature_is_the_limit_of_low_ones() -> None:
    row = logits("flat")
    for temperature in (0.0, 1e-30, 1e-6, 1e-4):
        assert sampler(temperature=temperature).choose(row, None, DESK) == row.argmax()


def test_a_seed_gives_the_same_tokens_whatever_runs_beside_it() -> None:
    """The desk is shared by all answers of a step."""
    rows = [logits("flat"), logits("peaked")]
    fields: dict[str, Any] = {"top_p": 0.9, "frequency_penalty": 0.2}

    def alone() -> list[int]:
        one = sampler(**fields)
        return [one.choose(rows[turn % 2], None, DESK) for turn in range(30)]

    first = alone()
    one, other = sampler(**fields), sampler(1, seed=None, logit_bias={5: 9.0})
    beside = []
    for turn in range(30):
        other.choose(rows[0], None, DESK)
        beside.append(one.choose(rows[turn % 2], None, DESK))
        other.choose(rows[1], None, DESK)
    assert beside == first == alone()
    assert sampler(1, **fields).choose(rows[0], None, DESK) != first[0]


@pytest.mark.parametrize("kind", ["flat", "peaked"])
def test_the_model_s_logits_stay_as_they_are(kind: str) -> None:
    row = logits(kind)
    row.flags.writeable = False
    for fields in ({}, {"top_p": 0.5}, {"top_k": 3}, {"logit_bias": {1: 5.0}}, {"presence_penalty": 1.0}):
        one = sampler(**fields)
        one.accept(3)
        one.choose(row, np.zeros(VOCAB, np.float32), DESK)


@given(st.lists(st.integers(0, 30), max_size=200), st.floats(0.5, 2.0), st.floats(-2, 2), st.floats(-2, 2))
def test_penalties_are_those_of_the_definition(
    tokens: list[int], repetition: float, presence: float, frequency: float
) -> None:
    prompt = np.array([3, 4, 4, 31], np.int32)
    params = SamplingParams(repetition_penalty=repetition, presence_penalty=presence, frequency_penalty=frequency)
    penalties = Penalties(params, prompt)
    for token in tokens:
        penalties.accept(token)
    row = np.linspace(-3, 3, 40, dtype=np.float32)
    counts = np.bincount(tokens, minlength=40)
    seen = (counts > 0) | np.isin(np.arange(40), prompt)
    wanted = np.where(seen, np.where(row > 0, row / repetition, row * repetition), row)
    wanted = wanted - frequency * counts - presence * (counts > 0)
    got = row.copy()
    if penalties.active:
        penalties.apply(got)
    assert got == pytest.approx(wanted, abs=1e-3)


def test_a_grammar_that_wants_the_end_goes_before_min_tokens() -> None:
    row = np.zeros(VOCAB, np.float32)
    barrier = np.full(VOCAB, -np.inf, np.float32)
    with pytest.raises(NoTokenError, match="no token is allowed"):
        sampler(min_tokens=3).choose(row, barrier, DESK)
    barrier[2] = 0
    assert sampler(min_tokens=3).choose(row, barrier, DESK) == 2


def test_logits_that_are_no_numbers_are_no_token() -> None:
    row = np.zeros(VOCAB, np.float32)
    row[7] = np.nan
    with pytest.raises(NoTokenError, match="no numbers"):
        sampler().choose(row, None, DESK)
