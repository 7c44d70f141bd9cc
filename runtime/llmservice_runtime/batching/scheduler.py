"""What one step computes. Pure policy: no engine, no clock, no threads.

Every answer that generates gets its token. Short prompts go whole, so that nobody waits for a first token behind a long
prompt; long ones share what is left of a budget, first come, first served. While answers generate the budget is
small enough to keep the time between their tokens; with none of them it is a whole batch, or what a few seconds are
enough for: a step is what liveness counts, and what a client that leaves waits for. Ends of prompts whose long
beginning was known take turns: the first one's token does not wait for the last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

TARGET_SECONDS = 0.5
"""Wanted time of a step that mixes prompt chunks with generation..."""
TARGET_FACTOR = 3.0
"""...or this many times a step without prompts, where that is longer."""
CHUNK_UNIT = 64
"""Prompts go in tiles, as llama.cpp takes them on a CPU: a token of less than a tile costs four times as much."""
PROMPT_ROWS = 64
"""Rows of logits of prompts in one step, beside one per sequence: what prompt_logprobs may ask for."""
SHORT_PROMPT = 128
"""What is left of a prompt goes whole when it is at most this long..."""
SHORT_BURST = 1024
"""...up to this many tokens a step: many short prompts at once are one pause of the running answers, not many."""
DEEP = 512
"""After so many tokens, attention over them costs a token as much as all the rest: together is hardly cheaper (CPU)."""
TURN = 32
"""Tokens of such prompts in one step: what a running answer pauses for, and what a first token waits for at most."""
SMOOTHING = 0.2
STEP_SECONDS = 2.0
"""Wanted time of any step..."""
TILE_SECONDS = 10.0
"""...but a tile's worth of tokens goes together up to here: one by one they would take longer by far."""


def turns(pending: Sequence[int], depths: Sequence[int]) -> list[bool]:
    """Which lanes (in order of arrival) may compute now; `depths` tokens of each are in memory.

    Ends of short prompts after a deep beginning take turns: TURN tokens a step, one prompt at least, nobody overtakes.
    """
    room = TURN
    may = []
    for tokens, depth in zip(pending, depths, strict=True):
        waits = False
        if 1 < tokens <= SHORT_PROMPT and depth >= DEEP:
            waits = room < min(tokens, TURN)
            room = 0 if waits else max(0, room - tokens)
        may.append(not waits)
    return may


def plan_step(
    pending: Sequence[int], limits: Sequence[int], *, chunk: int, prompt: int, batch: int, free: int
) -> list[int]:
    """Tokens that each lane computes now; lanes in order of arrival.

    `pending` tokens not computed yet (1 = generating, more = prompt), `limits` the most a lane may take in one step,
    `chunk` the prompt budget beside generation, `prompt` the most prompt tokens of any step, `batch` the most tokens,
    `free` cells to write to.
    Invariants: 0 <= taken <= min(pending, limit); sum <= min(batch, free); a generating lane goes before any prompt;
    the oldest long prompt moves on whenever there is room.
    """
    taken = [0] * len(pending)
    left = min(batch, free)
    generating = False
    for lane, tokens in enumerate(pending):
        if tokens == 1 and left > 0:
            taken[lane] = 1
            left -= 1
            generating = True
    prompts = [lane for lane, tokens in enumerate(pending) if tokens > 1]
    left = min(left, prompt)
    if not generating:
        _share(prompts, left, pending, limits, taken)
        return taken
    short = [lane for lane in prompts if pending[lane] <= SHORT_PROMPT]
    reserve = min(CHUNK_UNIT, chunk, left) if len(short) < len(prompts) else 0
    spent = _share(short, min(SHORT_BURST, left - reserve), pending, limits, taken)
    rest = min(left - spent, chunk if spent < chunk else reserve)
    _share([lane for lane in prompts if pending[lane] > SHORT_PROMPT], rest, pending, limits, taken)
    return taken


def _share(lanes: Sequence[int], budget: int, pending: Sequence[int], limits: Sequence[int], taken: list[int]) -> int:
    """Give the budget to lanes in their order; what was given."""
    spent = 0
    for lane in lanes:
        taken[lane] = min(pending[lane], limits[lane], budget - spent)
        spent += taken[lane]
    return spent


class ChunkBudget:
    """How many prompt tokens fit beside generation, learned from the time of steps."""

    def __init__(self, batch: int, first: int = 128) -> None:
        self._batch = batch
        self._first = min(first, batch)
        self._base: float | None = None
        self._per_token: float | None = None

    def observe(self, generated: int, prompt: int, seconds: float) -> None:
        """One step: lanes that generated, prompt tokens computed, its time."""
        if prompt == 0:
            self._base = _blend(self._base, seconds)
        elif prompt >= CHUNK_UNIT:
            base = (self._base or 0.0) if generated else 0.0
            self._per_token = _blend(self._per_token, max(seconds - base, seconds / 10) / prompt)

    @property
    def tokens(self) -> int:
        """Prompt tokens for the next mixed step: a multiple of 64, at least 64, at most a batch."""
        if self._per_token is None:
            return self._first
        base = self._base or 0.0
        spare = max(TARGET_SECONDS, TARGET_FACTOR * base) - base
        units = int(spare / self._per_token) // CHUNK_UNIT
        return min(max(units, 1) * CHUNK_UNIT, self._batch)


class StepBound:
    """How many prompt tokens one step may take, from the last step that took some.

    The last one alone: what a first step says, with the weights still on disk, or one at another depth, is forgotten
    with the next. Before there was one, a step of generation tells: a token of a prompt costs no more.
    """

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._base = math.inf
        """The shortest step: what a pass over the weights takes, however many tokens share it."""
        self._tokens = 0
        self._seconds = 0.0
        self._of_prompt = False

    def observe(self, generated: int, prompt: int, seconds: float) -> None:
        """One step: lanes that generated, prompt tokens computed, its time."""
        self._base = min(self._base, seconds)
        if prompt or (generated and not self._of_prompt):
            self._of_prompt = prompt > 0
            self._tokens, self._seconds = prompt or 1, seconds

    @property
    def tokens(self) -> int:
        """Prompt tokens for the next step: whole tiles where time allows, at least 1, at most a batch."""
        if not self._tokens:
            return min(CHUNK_UNIT, self._batch)
        target = min(max(STEP_SECONDS, 2 * self._base), TILE_SECONDS)
        fit = self._in(target)
        if self._seconds <= target:
            fit = max(
                fit, 2 * self._tokens
            )  # with a pass over the weights shared by more, twice as many never cost twice
        fit -= fit % CHUNK_UNIT if fit > CHUNK_UNIT else 0
        return min(max(fit, min(self._in(TILE_SECONDS), CHUNK_UNIT), 1), self._batch)

    def seconds(self, prompt: int) -> float:
        """What a step with so many prompt tokens takes by that speed; 0 = not known yet."""
        return max(self._base, prompt * self._seconds / self._tokens) if self._tokens else 0.0

    def _in(self, seconds: float) -> int:
        return int(min(self._tokens * seconds / max(self._seconds, 1e-9), self._batch))


def _blend(old: float | None, new: float) -> float:
    return new if old is None else (1 - SMOOTHING) * old + SMOOTHING * new
