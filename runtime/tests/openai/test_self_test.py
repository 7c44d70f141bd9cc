"""What the self-test of a load measures, in the time of a scripted engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

import pytest

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.openai.self_test import Came, Speed, self_test


@dataclass
class Machine:
    """Computes prompts at `prompt` tokens per second, then a token of every answer in each step of `step` seconds."""

    prompt: float = 1000.0
    step: float = 0.05
    compile_seconds: float = 0.0
    """What the first prompt of a length takes beside its tokens."""
    cached: int = 0
    merged: int = 1
    """Tokens that come at once, as where the reader has to wait for a processor."""
    broken: int = 100
    """After so many requests nothing comes any more but an exception."""
    now: float = 0.0
    asked: list[tuple[int, int, int]] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    async def ask(self, prompt: Sequence[int], tokens: int, answers: int) -> AsyncGenerator[Came]:
        if len(self.asked) >= self.broken:
            raise RuntimeError("the device is gone")
        known = any(length == len(prompt) for length, _, _ in self.asked)
        self.asked.append((len(prompt), tokens, answers))
        self.now += max(0, len(prompt) - self.cached) / self.prompt + (0.0 if known else self.compile_seconds)
        for number in range(0, tokens, self.merged):
            self.now += self.step * self.merged if number else 0.0
            for _ in range(answers):
                yield Came(min(self.merged, tokens - number), self.cached)
                await asyncio.sleep(0)


def encode(text: str) -> list[int]:
    """A token a word."""
    return [hash(word) for word in text.split()]


async def measured(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    context: int = 4096,
    answers: int = 4,
    compiles: bool = True,
) -> Speed:
    monkeypatch.setattr("llmservice_runtime.openai.self_test.time.monotonic", machine)
    return await self_test(machine.ask, encode, context, answers, compiles)


async def test_answers_prompts_and_answers_together_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    speed = await measured(machine, monkeypatch)
    assert speed.answer == pytest.approx(20.0)
    assert speed.prompt == pytest.approx(1000.0, rel=0.01)
    assert speed.together == pytest.approx(80.0), "four in each step"
    assert [length for length, _, _ in machine.asked] == [1, 32, 128, 128, 1], "0.05 s is enough to tell"
    assert speed.as_report().keys() == {
        "tokens_per_second", "prompt_tokens_per_second", "together_tokens_per_second",
    }  # fmt: skip


async def test_an_answer_that_came_at_once_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    speed = await measured(Machine(step=0.002, merged=16), monkeypatch)
    assert speed.answer == pytest.approx(500.0)


async def test_a_replica_is_not_kept_waiting_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """230 M parameters in 32 bits on two cores: 14 tokens a second."""
    machine = Machine(prompt=250.0, step=0.07)
    speed = await measured(machine, monkeypatch, answers=16)
    assert speed.answer == pytest.approx(14.3, rel=0.01) and speed.together == pytest.approx(228.6, rel=0.01)
    assert machine.now < 1.0


async def test_what_is_compiled_for_the_first_prompt_of_a_length_is_no_speed_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    speed = await measured(Machine(prompt=50_000.0, compile_seconds=0.5), monkeypatch)
    assert speed.prompt == pytest.approx(50_000.0)


async def test_where_nothing_is_compiled_a_prompt_that_takes_long_enough_is_asked_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine()
    speed = await measured(machine, monkeypatch, compiles=False)
    assert [length for length, _, _ in machine.asked] == [1, 32, 128, 1]
    assert speed.prompt == pytest.approx(1000.0, rel=0.01)


async def test_what_was_computed_before_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await measured(Machine(cached=16), monkeypatch)).prompt == pytest.approx(1000.0)


async def test_a_slow_machine_is_asked_for_little(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(prompt=10.0, step=2.0)
    speed = await measured(machine, monkeypatch)
    assert [length for length, _, _ in machine.asked] == [1, 32, 1]
    assert (speed.answer, speed.together) == (pytest.approx(0.5), pytest.approx(2.0))  # type: ignore[comparison-overlap]
    assert speed.prompt == pytest.approx(10.0) and machine.now < 16


@pytest.mark.parametrize(("context", "lengths"), [(16, [1, 1]), (64, [1, 32, 32, 1]), (200, [1, 32, 128, 128, 1])])
async def test_no_prompt_is_longer_than_the_context(
    context: int, lengths: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(prompt=1e6)
    speed = await measured(machine, monkeypatch, context)
    assert [length for length, _, _ in machine.asked] == lengths
    assert (speed.prompt > 0) == (len(lengths) > 2)


async def test_one_sequence_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    speed = await measured(machine, monkeypatch, answers=1)
    assert speed.together == speed.answer > 0
    assert machine.asked[-1][2] == 1


async def test_what_is_only_told_does_not_fail_a_load(monkeypatch: pytest.MonkeyPatch) -> None:
    speed = await measured(Machine(broken=1), monkeypatch)
    assert speed.answer > 0 and (speed.prompt, speed.together) == (0.0, 0.0)
    assert speed.as_report().keys() == {"tokens_per_second"}


async def test_a_model_that_says_nothing_fails_its_load(monkeypatch: pytest.MonkeyPatch) -> None:
    async def mute(prompt: Sequence[int], tokens: int, answers: int) -> AsyncGenerator[Came]:
        yield Came(0, error="NaN everywhere")

    async def confused(prompt: Sequence[int], tokens: int, answers: int) -> AsyncGenerator[Came]:
        yield Came(1)
        yield Came(0, error="NaN everywhere")

    for model in (mute, confused):
        with pytest.raises(UserError, match="NaN everywhere") as told:
            await self_test(model, encode, 64, 4)
        assert told.value.failure is FailureClass.SELF_TEST_FAILED
