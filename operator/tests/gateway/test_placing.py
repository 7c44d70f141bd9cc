"""Where requests belong, how many a replica is given, and whose turn it is, as properties."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llmservice_gateway.balance import BOUND, choose, ranked
from llmservice_gateway.fair import FairQueue, OwnersQueue
from llmservice_gateway.naming import Asked, asked_of
from llmservice_gateway.places import SPARE, Capacity, Size, has_room
from llmservice_gateway.prefix import START_BYTES, prefix_key
from llmservice_gateway.rates import MEAN_SECONDS, SECONDS, Mean, Rate
from llmservice_gateway.sizes import Learned, usage_in

KEYS = st.integers(0, 2**64 - 1)
NAMES = st.lists(st.text("abc-0123", min_size=1, max_size=6), min_size=1, max_size=8, unique=True)
WEIGHTS = st.integers(0, 10_000)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


@given(KEYS, NAMES, st.data())
def test_a_replica_that_goes_moves_only_what_it_had(key: int, names: list[str], data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(names))
    order = ranked(key, names)
    assert sorted(order) == sorted(names)
    assert ranked(key, data.draw(st.permutations(names))) == order
    assert ranked(key, [name for name in names if name != gone]) == [name for name in order if name != gone]


def test_keys_spread_evenly_and_alike_in_every_process() -> None:
    names = [f"demo-{n}" for n in range(4)]
    first = [ranked(key, names)[0] for key in range(4000)]
    assert all(900 < count < 1100 for count in Counter(first).values())
    script = (
        "from llmservice_gateway.balance import ranked; from llmservice_gateway.prefix import prefix_key;"
        "key = prefix_key({'messages': [{'role': 'user', 'content': 'x'}]});"
        "print(key, *ranked(key, ['demo-0', 'demo-1', 'demo-2', 'demo-3']))"
    )
    told = {subprocess.check_output([sys.executable, "-c", script], text=True, timeout=60) for _ in range(2)}
    key = prefix_key({"messages": [{"role": "user", "content": "x"}]})
    assert told == {" ".join([str(key), *ranked(key, names)]) + "\n"}


@given(KEYS, st.dictionaries(st.sampled_from("abcdefgh"), WEIGHTS, min_size=1), WEIGHTS, st.data())
def test_nobody_is_loaded_beyond_the_bound_who_need_not_be(
    key: int, loads: dict[str, int], weight: int, data: st.DataObject
) -> None:
    allowed = data.draw(st.lists(st.sampled_from(sorted(loads)), unique=True))
    chosen = choose(key, loads, weight, allowed)
    if chosen is None:
        assert not allowed
        return
    bound = BOUND * (sum(loads.values()) + weight) / len(loads)
    within = [name for name in ranked(key, allowed) if loads[name] < bound]
    assert chosen == within[0] if within else loads[chosen] == min(loads[name] for name in allowed)
    if len(allowed) == len(loads) and bound:
        assert within  # one is at or below the mean


@given(st.integers(1, 64), st.integers(0, 100_000), st.lists(st.integers(1, 4000), max_size=200))
def test_a_replica_gets_what_it_computes_together_and_two_more(sequences: int, kv: int, tokens: list[int]) -> None:
    capacity, load, given_ = Capacity(sequences, kv), Size(), 0
    for one in tokens:
        if has_room(capacity, load, Size(1, one)):
            load, given_ = load + Size(1, one), given_ + 1
    assert given_ <= sequences + SPARE
    assert len(tokens) == 0 or given_ >= 1
    if kv == 0 or sum(tokens) <= kv:
        assert given_ == min(len(tokens), sequences + SPARE)
    else:
        assert load.tokens * (given_ - SPARE) <= kv * given_ or given_ == 1


@given(st.integers(1, 64), st.integers(1, 80), st.integers(0, 80), st.integers(0, 80))
def test_a_longer_queue_at_the_engine_never_means_more(sequences: int, there: int, less: int, more: int) -> None:
    capacity, load, one = Capacity(sequences), Size(there, there), Size(1, 1)
    less, more = sorted((less, more))
    assert has_room(capacity, load, one, less) or not has_room(capacity, load, one, more)
    assert has_room(capacity, load, one, SPARE) == has_room(capacity, load, one)
    assert has_room(capacity, Size(), one, more) and has_room(capacity, load, Size(), more)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=40))
def test_clients_take_turns_and_keep_their_order(pushed: list[tuple[str, bool]]) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for number, (client, _) in enumerate(pushed):
        queue.push(client, (client, number))
    for number, (client, leaves) in enumerate(pushed):
        if leaves:
            queue.remove(client, (client, number))
    stay = [(client, number) for number, (client, leaves) in enumerate(pushed) if not leaves]
    assert len(queue) == len(stay) and sorted(queue) == sorted(stay)
    taken = []
    while (item := queue.take(lambda _: True)) is not None:
        taken.append(item)
    assert sorted(taken) == sorted(stay) and not len(queue)
    for client in "abc":
        assert [item for item in taken if item[0] == client] == [item for item in stay if item[0] == client]
    waiting = Counter(client for client, _ in stay)
    had: Counter[str] = Counter()
    for client, _ in taken:
        had[client] += 1
        assert all(had[client] <= had[other] + 1 for other in waiting if had[other] < waiting[other])


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.booleans()), max_size=60))
def test_what_owners_say_of_their_users_takes_no_turn_of_another_owner(pushed: list[tuple[str, str, bool]]) -> None:
    """Each owner's requests come in turns of its users; owners have theirs as if each had one client."""
    queue: OwnersQueue[tuple[str, str, int]] = OwnersQueue()
    plain: FairQueue[tuple[str, int]] = FairQueue()
    for number, (owner, user, _) in enumerate(pushed):
        queue.push((owner, user), (owner, user, number))
        plain.push(owner, (owner, number))
    for number, (owner, user, leaves) in enumerate(pushed):
        if leaves:
            queue.remove((owner, user), (owner, user, number))
            plain.remove(owner, (owner, number))
    stay = [(owner, user, number) for number, (owner, user, leaves) in enumerate(pushed) if not leaves]
    assert len(queue) == len(stay) and sorted(queue) == sorted(stay)
    taken = []
    while (item := queue.take(lambda _: True)) is not None:
        taken.append(item)
        other = plain.take(lambda _: True)
        assert other is not None and other[0] == item[0]
    assert sorted(taken) == sorted(stay) and not len(queue)
    for owner in "ab":
        users = Counter(user for mine, user, _ in stay if mine == owner)
        had: Counter[str] = Counter()
        for mine, user, _ in taken:
            if mine == owner:
                had[user] += 1
                assert all(had[user] <= had[one] + 1 for one in users if had[one] < users[one])


def test_who_can_not_be_served_is_passed_over_and_keeps_its_turn() -> None:
    queue: FairQueue[int] = FairQueue()
    queue.push("a", 1)
    queue.push("b", 2)
    queue.push("a", 0, first=True)
    assert queue.take(lambda item: item == 2) == 2
    assert queue.take(lambda item: item == 1) is None
    assert queue.take(lambda item: True) == 0


@given(JSON, JSON, JSON)
def test_any_body_has_a_key(messages: Any, tools: Any, prompt: Any) -> None:
    fields = {"messages": messages, "tools": tools, "prompt": prompt}
    assert 0 <= prefix_key(fields) < 2**64 and prefix_key(fields) == prefix_key(json.loads(json.dumps(fields)))


def message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


@given(st.text(), st.text(min_size=1), st.lists(st.text()))
def test_all_turns_of_a_conversation_have_one_key(system: str, first: str, later: list[str]) -> None:
    turns = [message("system", system), message("user", first)]
    key = prefix_key({"messages": turns})
    assert prefix_key({"messages": [*turns, *(message("assistant", text) for text in later)]}) == key
    assert prefix_key({"messages": [message("system", system + "."), message("user", first)]}) != key
    assert prefix_key({"messages": [message("system", system), message("user", "." + first)]}) != key
    assert prefix_key({"messages": turns, "tools": [{"type": "function"}]}) != key
    document = "x" * START_BYTES
    assert len({prefix_key({"messages": [message("user", document + text)]}) for text in [first, *later]}) == 1


def test_what_a_body_asks_for() -> None:
    asked = asked_of(b'{"model": "m", "n": 3, "max_tokens": 7, "stream": true, "messages": []}')
    assert (asked.model, asked.sequences, asked.most_tokens, asked.streams) == ("m", 3, 7, True)
    assert asked_of(b'{"prompt": ["a", "b"], "n": 2}').sequences == 4
    bodies = (b"{}", b'{"user": 3}', b'{"user": "u"}', b'{"user": "u", "safety_identifier": "s"}')
    assert [asked_of(body).user for body in bodies] == ["", "", "u", "s"]
    assert asked_of(b'{"prompt": [1, 2, 3]}').sequences == 1
    wrong = asked_of(b'{"model": 1, "n": -1, "max_tokens": "7", "stream": 1, "prompt": []}')
    assert (wrong.model, wrong.sequences, wrong.most_tokens, wrong.streams) == ("", 1, 0, False)


@given(st.floats(1.0, 12.0), st.lists(st.integers(100, 100_000), min_size=40, max_size=80))
def test_bytes_per_token_are_learned(ratio: float, bodies: list[int]) -> None:
    learned = Learned()
    for size in bodies:
        learned.saw(Asked(body_bytes=size), (max(1, round(size / ratio)), 100))
    assert abs(learned.bytes_per_token / ratio - 1) < 0.1
    assert 100 <= learned.answer_tokens < 105
    guessed = learned.size(Asked(body_bytes=8000, most_tokens=10), context_tokens=0)
    assert abs(guessed.tokens - 10 - 8000 / ratio) < 0.1 * 8000 / ratio + 1
    assert learned.size(Asked(body_bytes=8000, most_tokens=10), context_tokens=50).tokens == 50
    assert learned.size(Asked(body_bytes=8000, sequences=0), 50) == Size()


def test_usage_is_found_where_there_is_one() -> None:
    assert usage_in(b'{"usage": {"prompt_tokens": 12, "total_tokens": 15, "completion_tokens": 3}}') == (12, 3)
    stream = b'data: {"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'
    stream += b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":9}}\n\ndata: [DONE]\n\n'
    assert usage_in(stream) == (5, 9)
    assert usage_in(b'{"choices": []}') is None


@given(st.lists(st.floats(0, 100), max_size=50))
def test_a_rate_fades_to_nothing_and_is_never_below(pauses: list[float]) -> None:
    rate, now = Rate(), 0.0
    assert rate.per_second(5.0) == 0.0
    for pause in pauses:
        now += pause
        rate.add(1, now)
        assert rate.per_second(now) >= 1 / SECONDS
    assert rate.per_second(now + 60 * SECONDS) < 1e-9


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 50)), max_size=50), st.floats(0, 100))
def test_a_mean_is_within_what_was_counted_and_comes_to_what_is(counts: list[tuple[float, int]], rest: float) -> None:
    mean, now, last = Mean(), 0.0, 0
    for pause, last in counts:
        now += pause
        mean.set(last, now)
    highest = max((count for _, count in counts), default=0)
    assert -1e-9 <= mean.of_late(now + rest) <= highest + 1e-9
    assert abs(mean.of_late(now + 60 * MEAN_SECONDS) - last) < 1e-9


def test_short_requests_are_in_the_mean_by_their_share_of_the_time() -> None:
    mean = Mean()
    for tenth in range(600):
        mean.set(3 * (tenth % 2), tenth / 10)
    assert abs(mean.of_late(60.0) - 1.5) < 0.1


def test_a_picture_counts_for_a_prompt_whatever_its_file_has() -> None:
    def body(picture: int) -> bytes:
        url = "data:image/png;base64," + "A" * picture
        parts = [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": url}}]
        return json.dumps({"model": "m", "messages": [{"role": "user", "content": parts}]}).encode()

    small, large = (asked_of(body(size)).body_bytes for size in (100_000, 3_000_000))
    assert small == large < 4096
