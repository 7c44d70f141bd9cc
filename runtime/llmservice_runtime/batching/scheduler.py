"""What one step computes. Pure policy: no engine, no clock, no threads.

Every answer that generates gets its token. Short prompts go whole, so that nobody waits for a first token behind a long
prompt; long ones get chunks, first come, first served. While answers generate both are bounded by the time that they
add to a step (`Pace`); where only long prompts are it is a whole batch, or what a few seconds are enough for: a step is
what liveness counts, and what a client that leaves waits for. Ends of prompts whose long
beginning was known take turns: the first one's token does not wait for the last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

CHUNK_SHARE = 10
"""Wanted time of a step with a chunk of long prompts: one of so many parts of what they all take..."""
CHUNK_BEATS = 7.0, 16.0
"""...but as many steps without prompts at least, and at most..."""
CHUNK_SECONDS, CHUNK_LEAST = 1.0, 3.0
"""...and no longer than so many seconds, or so many such steps where these are longer."""
CHUNK_WAITS = 2
"""Steps with short prompts that a chunk waits for: of those who begin together one is mostly a step ahead."""
REST = 1
"""Steps that only generate (and begin short prompts) after one with a chunk: most gaps of a stream are without one."""
BURST_BEATS = 1.0
"""What short prompts may add to a step, in steps without prompts..."""
BURST_SHARE = 0.5
"""...as long as they are fewer than this share of the answers that generate. More go together: that is one pause of a
few, where one after the other would be as many small pauses of ever more."""
CHUNK_UNIT = 64
"""Prompts go in tiles, as llama.cpp takes them on a CPU: a token of less than a tile costs four times as much."""
PROMPT_ROWS = 64
"""Rows of logits of prompts in one step, beside one per sequence: what prompt_logprobs may ask for."""
SHORT_PROMPT = 128
"""What is left of a prompt goes whole when it is at most this long."""
DEEP = 512
"""After so many tokens, attention over them costs a token as much as all the rest: together is hardly cheaper (CPU)."""
TURN = 32
"""Tokens of such prompts in one step: what a running answer pauses for, and what a first token waits for at most."""
SMOOTHING = 0.2
DEEPENING = 0.5
"""The same of what a token of a long prompt takes: it rises with each chunk, and falls with the next prompt."""
STEP_SECONDS = 3.0
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


def backlog(pending: Sequence[int]) -> tuple[int, int]:
    """Tokens of long prompts, and of short ones, that are not computed yet."""
    short = sum(tokens for tokens in pending if 1 < tokens <= SHORT_PROMPT)
    return sum(tokens for tokens in pending if tokens > SHORT_PROMPT), short


def plan_step(
    pending: Sequence[int],
    limits: Sequence[int],
    *,
    chunk: int,
    burst: int,
    prompt: int,
    batch: int,
    free: int,
    beside: int = 0,
) -> list[int]:
    """Tokens that each lane computes now; lanes in order of arrival.

    `pending` tokens not computed yet (1 = generating, more = prompt), `limits` the most a lane may take in one step,
    `chunk` what long prompts get beside generation (0 = nothing now), `burst` what a few short ones get, `prompt` the
    most prompt tokens of any step, `batch` the most tokens, `free` cells to write to, `beside` lanes that generate in
    steps of their own (of another adapter) and wait for this one.
    Invariants: 0 <= taken <= min(pending, limit); sum <= min(batch, free); a generating lane goes before any prompt;
    the oldest short prompt, and the oldest long one where `chunk` allows, move on whenever there is room.
    """
    taken = [0] * len(pending)
    left = min(batch, free)
    generating = beside
    for lane, tokens in enumerate(pending):
        if tokens == 1 and left > 0:
            taken[lane] = 1
            left -= 1
            generating += 1
    prompts = [lane for lane, tokens in enumerate(pending) if tokens > 1]
    short = [lane for lane in prompts if pending[lane] <= SHORT_PROMPT]
    long = [lane for lane in prompts if pending[lane] > SHORT_PROMPT]
    left = min(left, prompt)
    if not generating and not short:
        _share(long, left, pending, limits, taken)
        return taken
    # Half at most: on a machine where a long one takes minutes neither waits for the other.
    reserve = min(CHUNK_UNIT if generating else chunk, chunk, left // 2) if long else 0
    burst = burst if len(short) < BURST_SHARE * generating else left
    spent = 0
    for lane in short:
        whole = min(pending[lane], limits[lane], left - reserve - spent)
        if spent and whole and spent + whole > burst:
            break
        taken[lane] = whole
        spent += whole
    rest = min(left - spent, reserve if spent else chunk)
    _share(long, rest, pending, limits, taken)
    return taken


def _share(lanes: Sequence[int], budget: int, pending: Sequence[int], limits: Sequence[int], taken: list[int]) -> int:
    """Give the budget to lanes in their order; what was given."""
    spent = 0
    for lane in lanes:
        taken[lane] = min(pending[lane], limits[lane], budget - spent)
        spent += taken[lane]
    return spent


class Pace:
    """How many prompt tokens go beside generation, and when; learned from the time of steps.

    A step that only generates is the machine's own beat. Short prompts come all the time, so what they add to a step is
    about a beat. Long ones come seldom, and some steps that only generate follow each of their chunks: most gaps of a
    stream are a beat, also while long prompts are computed. A lone one goes in many chunks, for short pauses; where
    they queue up chunks grow, since large ones are computed fastest. `seconds` is the wanted time of a step with a
    chunk; 0 = by what waits.
    """

    def __init__(self, batch: int, seconds: float = 0.0, first: int = 128) -> None:
        self._batch = batch
        self._seconds = seconds
        self._first = min(first, batch)
        self._beat: float | None = None
        self._per_token: float | None = None
        """Seconds of a token of a short prompt..."""
        self._per_long: float | None = None
        """...and of a long one: attention over what is before it comes on top."""
        self._rest = 0
        self._waited = 0
        """Steps with short prompts since the last chunk."""

    def observe(self, generated: int, prompt: int, seconds: float, long: int = 0, beside: int = 0) -> None:
        """One step: lanes that generated, prompt tokens computed, its time; how many of the tokens were a chunk of long
        prompts; lanes that waited for it, of other adapters."""
        self._rest = REST if long and (generated or beside) else max(self._rest - 1, 0)
        self._waited = 0 if long else self._waited + (prompt > 0)
        beat = (self._beat or 0.0) if generated else 0.0
        if prompt == 0:
            self._beat = _blend(self._beat, seconds)
        elif long >= CHUNK_UNIT:
            rest = seconds - beat - (prompt - long) * (self._per_token or 0.0)
            self._per_long = _blend(self._per_long, max(rest, seconds / 10) / long, DEEPENING)
        elif prompt >= CHUNK_UNIT and not long:
            self._per_token = _blend(self._per_token, max(seconds - beat, seconds / 10) / prompt)

    def chunk(self, long: int, short: int) -> int:
        """Tokens of long prompts for the next mixed step: a multiple of 64, at most a batch; 0 = it has none.

        So many tokens of `long` prompts wait, and of `short` ones: for these a chunk waits `CHUNK_WAITS` times.
        """
        if self._rest or (short and self._waited < CHUNK_WAITS):
            return 0
        beat, each = self._beat or 0.0, self._per_long or self._per_token
        least, most = (beats * beat for beats in CHUNK_BEATS)
        share = long * (each or 0.0) / CHUNK_SHARE
        wanted = self._seconds or min(max(least, share), most, max(CHUNK_SECONDS, CHUNK_LEAST * beat))
        return self._fitting(wanted - beat, each)

    @property
    def burst(self) -> int:
        """Tokens of short prompts for the next mixed step, the first of which goes whole in any case."""
        return self._fitting(BURST_BEATS * (self._beat or 0.0), self._per_token or self._per_long)

    def within(self, seconds: float) -> int:
        """Tokens of any prompts that take so long together: a multiple of 64, one tile at least."""
        known = [each for each in (self._per_token, self._per_long) if each is not None]
        return self._fitting(seconds, max(known, default=None))

    def _fitting(self, seconds: float, each: float | None) -> int:
        if each is None or self._beat is None:
            return self._first
        units = int(seconds / each) // CHUNK_UNIT
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


def _blend(old: float | None, new: float, share: float = SMOOTHING) -> float:
    return new if old is None else (1 - share) * old + share * new
