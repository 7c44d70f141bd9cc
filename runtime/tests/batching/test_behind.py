"""Batch work goes behind live answers, on an engine that a clock stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from llmservice_runtime.batching.behind import LOOK, SHARE, Share
from llmservice_runtime.batching.decoder import Decoder, StepFailedError, Taken
from llmservice_runtime.batching.kvcache import KvCache, Op
from llmservice_runtime.batching.lanes import Lanes
from llmservice_runtime.contract.bounds import batch_places
from llmservice_runtime.generation.answers import Answer
from llmservice_runtime.generation.arrays import Floats
from llmservice_runtime.openai.metrics import EngineMetrics
from llmservice_runtime.protocol.engine import GenerationRequest, SamplingParams

VOCABULARY = cast(Any, SimpleNamespace(vocab_size=50_000, end_tokens=frozenset(), special_tokens=frozenset()))
STREAM = cast(Any, SimpleNamespace(arrived=0.0))


class Memory:
    """Keeps nothing."""

    def apply(self, ops: Iterable[Op]) -> None: ...
    def clear(self) -> None: ...


class Clock(Decoder):
    """A step takes `beat`, `lane` more for each that generates, `token` for each token of a prompt."""

    def __init__(self, lanes: Lanes, *, lane: float) -> None:
        super().__init__(lanes, 2048)
        self.beat, self.lane, self.token = 0.010, lane, 0.0005
        self.now = 0.0
        self.breaks: Answer | None = None

    def compute(self, taken: Taken) -> None:
        if self.breaks is not None and any(answer is self.breaks for answer, _ in taken):
            raise StepFailedError("it breaks")
        prompt = sum(tokens for _, tokens in taken if tokens > 1)
        took = self.beat + self.lane * (len(taken) - 1) + self.token * prompt
        self.seconds += took
        self.now += took

    def scores(self, rows: int) -> Floats:
        raise NotImplementedError


@dataclass
class World:
    """An engine of `most` sequences, each with 2,048 cells; with `pool`, so many for all of them."""

    most: int = 8
    lane: float = 0.004
    pool: int = 0
    numbers: int = 0
    failed: list[Answer] = field(default_factory=list)
    done: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        shared = self.pool > 0
        self.kv = KvCache(
            2 * self.most if shared else self.most, self.pool or self.most * 2048, shared=shared, reuse=True
        )
        self.lanes = Lanes(self.kv, Memory(), self.most, EngineMetrics("m"))
        self.decoder = Clock(self.lanes, lane=self.lane)
        self.times: dict[Answer, list[float]] = {}

    def ask(self, prompt: int, answer: int, *, batch: bool = False, tokens: list[int] | None = None) -> Answer:
        """One that wants so many tokens; all prompts differ, unless `tokens` are given."""
        self.numbers += 1
        given = tokens or [self.numbers] * prompt
        request = GenerationRequest("r", given, SamplingParams(max_tokens=answer), batch=batch)
        asked = Answer(request, 0, STREAM, VOCABULARY, 2048, None)
        self.times[asked] = [self.decoder.now]
        self.lanes.queue([asked])
        return asked

    def step(self) -> Taken:
        """As the step loop does it."""
        self.lanes.admit()
        taken = self.decoder.step(self._fail)
        for answer, tokens in taken:
            answer.fed += tokens
            if answer.pending == 0:
                answer.tokens[answer.length] = 7
                answer.length += 1
                self.times[answer].append(self.decoder.now)
                if answer.length >= answer.limit:
                    self.lanes.release(answer, keep=True)
                    self.lanes.running.remove(answer)
                    self.done.append(answer)
        return taken

    def until(self, answer: Answer, generated: int, steps: int = 5000) -> None:
        """Steps, until it has so many tokens."""
        for _ in range(steps):
            if answer.generated >= generated:
                return
            self.step()
        raise AssertionError(f"{answer.generated} of {generated} tokens after {steps} steps")

    def finish(self, steps: int = 20_000) -> None:
        """Steps, as long as there is anything to do."""
        for _ in range(steps):
            if not (self.lanes.running or self.lanes.waiting):
                return
            self.step()
        raise AssertionError("it never ends")

    def first(self, answer: Answer) -> float:
        """Seconds until its first token."""
        asked, first, *_ = self.times[answer]
        return first - asked

    def _fail(self, answer: Answer, message: str) -> None:
        self.lanes.remove(answer, keep=False)
        self.failed.append(answer)


@pytest.mark.parametrize("world", [World(), World(pool=4096), World(lane=0.0001), World(most=1)], ids=str)
def test_a_live_answer_waits_for_the_step_at_hand_alone(world: World) -> None:
    alone = World(world.most, world.lane, world.pool)
    wanted = alone.ask(400, 5)
    alone.until(wanted, 1)
    work = [world.ask(300, 200, batch=True) for _ in range(12)]
    world.until(work[0], 20)
    for _ in range(3):
        longest = max(_took(world) for _ in range(20))
        live = world.ask(400, 5)
        world.until(live, 5)
        assert world.first(live) <= alone.first(wanted) + longest
    world.finish()
    assert not world.failed
    assert len(world.done) == 15
    assert all(answer.generated == 200 for answer in work)


def _took(world: World) -> float:
    before = world.decoder.now
    world.step()
    return world.decoder.now - before


def test_what_pauses_keeps_its_place_and_goes_on_where_it_was() -> None:
    world = World()
    work = [world.ask(300, 400, batch=True) for _ in range(6)]
    world.until(work[-1], 10)
    fed = [answer.fed for answer in work]
    live = world.ask(200, 2)
    world.until(live, 1)
    assert [answer.fed for answer in work] == fed
    assert all(answer.slot is not None for answer in work)


def test_live_answers_take_the_places_of_batch_work_whose_beginning_is_found_again() -> None:
    world = World(pool=16_384)
    work = [world.ask(300, 400, batch=True) for _ in range(batch_places(8))]
    world.until(work[-1], 10)
    live = [world.ask(100, 40) for _ in range(8)]
    for answer in live:
        world.until(answer, 1)
    assert all(answer.slot is None for answer in work)
    world.until(live[-1], 40)
    before = world.decoder.now
    world.until(work[0], work[0].generated + 2)
    assert world.decoder.now - before < 300 * world.decoder.token  # its prompt was not computed again


def test_a_place_is_left_to_live_requests_and_what_was_kept_for_them() -> None:
    world = World()
    talk = [999] * 500
    first = world.ask(0, 5, tokens=talk)
    world.until(first, 5)
    work = [world.ask(300, 20, batch=True) for _ in range(40)]
    world.until(work[20], 10)
    assert len(world.lanes.running) == batch_places(8)
    again = world.ask(0, 5, tokens=[*talk, 1, 2, 3])
    world.until(again, 1)
    assert world.first(again) < 500 * world.decoder.token


@pytest.mark.parametrize(("lane", "least", "most"), [(0.0001, 1.0, 1 + 1.5 * SHARE), (0.010, 1.0, 1 + 2 * SHARE)])
def test_beside_live_answers_that_generate_it_goes_on_and_costs_them_little(
    lane: float, least: float, most: float
) -> None:
    alone = World(lane=lane)
    wanted = alone.ask(50, 500)
    alone.until(wanted, 500)
    world = World(lane=lane)
    work = [world.ask(300, 400, batch=True) for _ in range(6)]
    world.until(work[0], 5)
    before = sum(answer.generated for answer in work)
    live = world.ask(50, 500)
    world.until(live, 500)
    times = world.times[live]
    slowed = (times[-1] - times[1]) / (alone.times[wanted][-1] - alone.times[wanted][1])
    assert least <= slowed <= most
    assert sum(answer.generated for answer in work) > before


def test_where_lanes_cost_next_to_nothing_it_is_in_nearly_every_step() -> None:
    world = World(lane=0.0001)
    work = [world.ask(50, 1000, batch=True) for _ in range(4)]
    live = world.ask(50, 400)
    world.until(live, 400)
    assert min(answer.generated for answer in work) > 250


def test_more_live_answers_than_places_leave_none_to_batch_work() -> None:
    world = World(most=4)
    work = [world.ask(100, 50, batch=True) for _ in range(4)]
    world.until(work[0], 5)
    live = [world.ask(100, 50) for _ in range(10)]
    world.until(live[0], 1)
    had = [answer.generated for answer in work]
    world.until(live[4], 1)
    assert [answer.generated for answer in work] == had
    world.finish()
    assert {answer for answer in world.done if not answer.batch} == set(live)


def test_memory_that_is_full_is_taken_from_batch_work_first() -> None:
    world = World(pool=1024)
    work = [world.ask(200, 150, batch=True) for _ in range(3)]
    world.until(work[-1], 5)
    live = [world.ask(200, 150) for _ in range(2)]
    world.until(live[-1], 150)
    world.finish()
    assert not world.failed
    assert len(world.done) == 5
    assert all(world.done.index(answer) < 2 for answer in live)


def test_live_answers_do_not_wait_for_a_beginning_that_paused_work_computes() -> None:
    world = World(most=2)
    shared = [5] * 600
    world.ask(0, 5, tokens=[*shared, 1], batch=True)
    world.step()
    live = world.ask(0, 5, tokens=[*shared, 2])
    world.until(live, 5, steps=100)


@pytest.mark.parametrize("batch", [True, False])
def test_one_that_breaks_steps_ends_alone(batch: bool) -> None:
    world = World(most=4)
    work = [world.ask(100, 50, batch=True) for _ in range(3)]
    world.until(work[0], 5)
    live = [world.ask(100, 50), world.ask(100, 50)]
    world.decoder.breaks = work[1] if batch else live[0]
    world.finish()
    assert world.failed == [world.decoder.breaks]
    assert len(world.done) == 4


def test_batch_work_that_was_in_a_broken_step_goes_on_while_live_answers_never_end() -> None:
    world = World(most=6)
    work = [world.ask(100, 20, batch=True) for _ in range(3)]
    world.until(work[0], 5)
    world.decoder.breaks = work[1]
    work += [world.ask(100, 20, batch=True) for _ in range(3)]
    live = [world.ask(30, 40)]
    wanted = {answer for answer in work if answer is not world.decoder.breaks}
    for _ in range(20_000):
        if live[-1].generated >= 20:
            live.append(world.ask(30, 40))
        if wanted <= {*world.done}:
            break
        world.step()
        assert any(not answer.batch for answer in (*world.lanes.running, *world.lanes.waiting))
    assert wanted <= {*world.done} and world.failed == [work[1]]
    longest = max(b - a for answer in live for a, b in zip(world.times[answer], world.times[answer][1:], strict=False))
    assert longest < 0.5, "what is tried alone takes a step at a time from them"


def test_a_batch_that_fails_together_ends_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody in it is to blame, as where two have no memory beside each other: none fails, and steps do not repeat for
    ever."""
    world = World(most=4)
    compute = world.decoder.compute
    tries = 0

    def picky(taken: Taken) -> None:
        nonlocal tries
        tries += 1
        if len(taken) > 1:
            raise StepFailedError("too many")
        compute(taken)

    monkeypatch.setattr(world.decoder, "compute", picky)
    asked = [world.ask(100, 30) for _ in range(4)]
    world.finish()
    assert {*world.done} == {*asked} and not world.failed
    assert tries < 4 * 30 + 30


def test_what_is_tried_alone_to_its_end_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight live answers together fail, again and again: each goes on all the time, and so does who comes then."""
    world = World(most=12)
    compute = world.decoder.compute

    def picky(taken: Taken) -> None:
        if sum(answer in crowd for answer, _ in taken) > 1:
            raise StepFailedError("too many")
        compute(taken)

    monkeypatch.setattr(world.decoder, "compute", picky)
    crowd = [world.ask(100, 200) for _ in range(8)]
    world.until(crowd[0], 20)
    late = [world.ask(30, 200) for _ in range(2)]
    world.until(late[0], 100)
    assert late[1].generated > 90, "every second step is theirs"
    had = [answer.generated for answer in crowd]
    assert min(had) > 20 and max(had) - min(had) < 10, "none waits for another's end"
    world.finish()
    assert {*world.done} == {*crowd, *late} and not world.failed
    longest = [max(b - a for a, b in zip(world.times[x][1:], world.times[x][2:], strict=False)) for x in crowd + late]
    assert max(longest) < 1.0


def _longest_gap_beside_a_long_prompt(apart: Callable[[Answer, Answer], None]) -> float:
    """What a stream pauses for at most; `apart` sets it or the prompt apart."""
    world = World(most=4)
    world.decoder.token = 0.002  # whole it would take 3.6 s
    stream, long = world.ask(30, 400), world.ask(1800, 5)
    apart(stream, long)
    world.lanes.waiting.remove(long)
    world.until(stream, 20)
    world.lanes.queue([long])
    world.until(long, 5)
    times = world.times[stream][10:]
    return max(b - a for a, b in pairwise(times))


def _suspect_prompt(stream: Answer, long: Answer) -> None:
    long.suspect = 10_000


def _suspect_stream(stream: Answer, long: Answer) -> None:
    stream.suspect = 10_000


def _other_adapter(stream: Answer, long: Answer) -> None:
    long.adapter = 1


@pytest.mark.parametrize("apart", [_suspect_prompt, _suspect_stream, _other_adapter])
def test_a_long_prompt_in_steps_of_its_own_leaves_others_their_beat(apart: Callable[[Answer, Answer], None]) -> None:
    """Whatever keeps them out of its steps, they wait for a chunk as beside any prompt, and not for seconds."""
    together = _longest_gap_beside_a_long_prompt(lambda stream, long: None)
    assert _longest_gap_beside_a_long_prompt(apart) < 1.5 * together


@pytest.mark.parametrize("apart", [_suspect_prompt, _other_adapter])
def test_a_short_prompt_does_not_wait_for_a_long_one_in_steps_of_its_own(
    apart: Callable[[Answer, Answer], None],
) -> None:
    """Nothing generates yet."""

    def first(apart: Callable[[Answer, Answer], None]) -> float:
        world = World(most=4)
        world.decoder.token = 0.002
        world.until(world.ask(500, 5), 5)
        long = world.ask(1800, 5)
        world.until(long, 0)
        world.step()
        short = world.ask(30, 5)
        apart(short, long)
        world.until(short, 1)
        return world.first(short)

    assert first(apart) < 5 * first(lambda stream, long: None), "a chunk at most, not seconds"


@pytest.mark.parametrize("seconds", [0.002, 0.2])
def test_adapters_take_turns_beside_what_is_tried_alone(seconds: float) -> None:
    world = World(most=6)
    world.decoder.beat = seconds
    asked = [world.ask(30, 150) for _ in range(3)]
    world.until(asked[0], 5)
    asked[0].suspect = 10_000
    asked[2].adapter = 1
    world.until(asked[0], 100)
    assert min(answer.generated for answer in asked[1:]) > 30


def test_batch_work_beside_live_answers_is_not_stopped_by_what_of_it_is_tried_alone() -> None:
    world = World(most=8)
    work = [world.ask(50, 1500, batch=True) for _ in range(3)]
    world.until(work[0], 5)
    work[0].suspect = 10_000
    live = world.ask(30, 1900)
    world.until(live, 1800)
    assert min(answer.generated for answer in work) > 10


def test_the_account_allows_steps_beside_as_live_ones_pay_for_them() -> None:
    share = Share()

    def paid() -> int:
        """Steps of live answers alone until it allows one beside."""
        steps = 0
        while not share.allows:
            share.alone(0.010)
            steps += 1
        return steps

    assert paid() == 1, "nothing is known yet"
    share.beside(0.050, together=True)
    assert paid() == pytest.approx(0.040 / (SHARE * 0.010), abs=6)
    for _ in range(LOOK):
        assert paid() == 0
        share.beside(0.010, together=True)
    assert paid() == 1, "what a step takes alone is looked at again"


def test_places() -> None:
    assert [batch_places(most) for most in (1, 2, 3, 4, 8, 256)] == [1, 1, 2, 3, 6, 192]


def test_answers_wait_in_the_order_of_their_kind() -> None:
    world = World()
    asked = [world.ask(10, 5, batch=batch) for batch in (True, False, True, False)]
    assert list(world.lanes.waiting) == [asked[1], asked[3], asked[0], asked[2]]
    assert np.array_equal([answer.batch for answer in world.lanes.waiting], [False, False, True, True])
