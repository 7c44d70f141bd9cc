"""One pass of a model over what runs: plan, compute; with less when the memory is full, one by one when it fails.

What runs with different adapters is computed in steps of its own, in turns. So is what was in a step that failed, and
may fail again: nobody waits for its end.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from llmservice_runtime.batching.behind import STEP_SECONDS, Share
from llmservice_runtime.batching.lanes import Lanes
from llmservice_runtime.batching.scheduler import (
    CHUNK_UNIT,
    PROMPT_ROWS,
    SHORT_PROMPT,
    Pace,
    StepBound,
    backlog,
    plan_step,
    turns,
)
from llmservice_runtime.batching.turns import Turns
from llmservice_runtime.generation.answers import Answer
from llmservice_runtime.generation.arrays import Floats

log = logging.getLogger(__name__)

Taken = list[tuple[Answer, int]]
"""Answers and how many of their tokens one step computed, in batch order."""
Fail = Callable[[Answer, str], None]
"""Ends an answer that can't be computed, with the reason."""


def _nothing() -> None:
    """Steps end by themselves."""


class NoRoomError(Exception):
    """The memory has no room for a step; it may have for a smaller one. What was before it is unchanged."""


class StepFailedError(Exception):
    """A step could not be computed; the message says what the engine said."""


class HaltedError(Exception):
    """A step of batch work alone was ended, as a live answer waits. What was before it is unchanged."""


class Decoder(ABC):
    """Computes steps of at most `batch` tokens for what runs in `lanes`; `step_seconds` as in `Pace`."""

    def __init__(self, lanes: Lanes, batch: int, step_seconds: float = 0.0) -> None:
        self.lanes = lanes
        self._batch_size = batch
        self._pace = Pace(batch, step_seconds)
        self._bound = StepBound(batch)
        self._turns = Turns()
        self._share = Share()
        self._with_batch = True
        """Whether batch work computes in the step at hand."""
        self._alone: Answer | None = None
        """What is suspect and computes in the step at hand; None = all that is not."""
        self._was_alone = {False: False, True: False}
        """Whether something suspect had the last step without batch work, and the last with some."""
        self._steps = 0
        self.seconds = 0.0
        """Native time of the last step."""
        self.halt: Callable[[], None] = _nothing
        """In any thread: a live answer waits. A step of batch work alone, at hand or about to begin, need not end..."""
        self.go_on: Callable[[], None] = _nothing
        """...until this is said: what waits is known."""
        self.expected = 0.0
        """What the step at hand takes by the speed of those before; 0 = not known."""

    @abstractmethod
    def compute(self, taken: Taken) -> None:
        """Compute these tokens, adding the time to `seconds`. NoRoomError, StepFailedError or HaltedError."""

    @abstractmethod
    def scores(self, rows: int) -> Floats:
        """Logits of the last step, (rows, vocab), in batch order. Valid until the next step; do not write."""

    def read_adapter(self, path: Path) -> AbstractContextManager[Any]:
        """What `load_adapter` takes, made of what is at `path` while steps go on. UserError when it can't be. In any
        thread."""
        return nullcontext(path)

    def load_adapter(self, read: Any) -> int:
        """Load an adapter; its number, from 1 on, never used again. UserError when it can't be. In the step thread."""
        raise NotImplementedError

    def free_adapter(self, adapter: int) -> None:
        """Give its memory back. Nothing runs with it any more. In the step thread."""
        raise NotImplementedError

    def arrange(self, taken: Taken) -> Taken:
        """The order in a batch. Slots side by side are computed together where it names them one after the other."""
        return taken if self.lanes.kv.shared or len(taken) < 2 else sorted(taken, key=lambda pair: pair[0].slot or 0)

    def outputs(self, answer: Answer, tokens: int) -> int:
        """Rows of logits that these tokens of an answer give."""
        if answer.prompt_logprobs is not None and answer.first is None:
            return tokens
        return 1 if tokens == answer.pending else 0

    def step(self, fail: Fail) -> Taken:
        """Compute one step; what each answer got, all of one adapter. Retries with less until it fits."""
        self._steps += 1
        if taken := self._generating():
            return self._step_of(taken[0][0].adapter, fail, taken)
        self._with_batch = self._batch_goes()
        self._alone = self._next_alone()
        adapters = {answer.adapter for answer in self._present()}
        for adapter in self._turns.order(adapters) if len(adapters) > 1 else adapters:
            if taken := self._step_of(adapter, fail):
                return taken
        return []

    def _generating(self) -> Taken:
        """The step where all that runs generates, with one adapter, and none of it is batch work or suspect: most steps
        are so, and have nothing to decide. Empty = there is something."""
        running = self.lanes.running
        if self.lanes.kv.bounded or not 0 < len(running) <= self._batch_size:
            return []
        adapter = running[0].adapter
        for answer in running:
            if answer.pending != 1 or answer.adapter != adapter or answer.batch or answer.suspect:
                return []
        self._with_batch, self._alone = True, None
        self._was_alone = {False: False, True: False}
        return self.arrange([(answer, 1) for answer in running])

    def _batch_goes(self) -> bool:
        """Whether batch work computes now."""
        if all(answer.batch for answer in self.lanes.running):
            return True
        return not self.lanes.urgent and self._share.allows

    def _may(self) -> list[Answer]:
        """Those that may compute now, with batch work or without."""
        running = self.lanes.running
        return running if self._with_batch else [answer for answer in running if not answer.batch]

    def _next_alone(self) -> Answer | None:
        """What is suspect has every second step beside what is not, and those take turns."""
        may = self._may()
        suspects = [answer for answer in may if answer.suspect]
        goes = bool(suspects) and (len(suspects) == len(may) or not self._was_alone[self._with_batch])
        self._was_alone[self._with_batch] = goes
        if not goes:
            return None
        alone = min(suspects, key=lambda answer: answer.tried)
        alone.tried = self._steps
        return alone

    def _present(self) -> list[Answer]:
        """Those that compute in the step at hand: one that is suspect, or all that are not."""
        may = self._may()
        if self._alone is not None:
            return [answer for answer in may if answer is self._alone]
        return [answer for answer in may if not answer.suspect]

    def _step_of(self, adapter: int, fail: Fail, taken: Taken | None = None) -> Taken:
        """A step of this adapter: of `taken`, or as it is planned."""
        self.seconds = 0.0
        limit = self._batch_size
        while True:
            taken = taken or self._plan(adapter, limit, fail)
            if not taken:
                return []
            prompt = sum([tokens for _, tokens in taken if tokens > 1])
            self.expected = self._bound.seconds(prompt)
            try:
                self.compute(taken)
            except HaltedError:
                return []
            except StepFailedError as error:
                return self._isolate(taken, str(error), fail)
            except NoRoomError:
                limit, taken = self._less(taken, limit, fail), None
                continue
            self._learn(adapter, taken, prompt)
            for answer, tokens in taken:
                assert answer.slot is not None
                end = answer.fed + tokens
                self.lanes.kv.extend(answer.slot, answer.tokens[answer.fed : end], answer.shown.saves_at(end))
                answer.suspect = answer.suspect if end < answer.suspect else 0
            return taken

    def _learn(self, adapter: int, taken: Taken, prompt: int) -> None:
        """What a step, with so many tokens of prompts, says of those that come."""
        generated, long, beside = len(taken), 0, 0
        if prompt:
            generated = sum(1 for _, tokens in taken if tokens == 1)
            long = sum(tokens for answer, tokens in taken if answer.pending > SHORT_PROMPT)
            beside = self._beside(adapter)
        self._pace.observe(generated, prompt, self.seconds, long, beside)
        self._bound.observe(generated, prompt, self.seconds)
        if self._alone is None:  # else it was no turn of those that take turns
            self._turns.computed(adapter, self.seconds)
        self._account(taken, prompt)

    def _account(self, taken: Taken, prompt: int) -> None:
        """Tell what batch work takes from live answers, where there are some."""
        batch = sum([answer.batch for answer, _ in taken])
        if batch and any(not answer.batch for answer in self.lanes.running):
            self._share.beside(self.seconds, together=batch < len(taken))
        elif not batch and not prompt:
            self._share.alone(self.seconds)

    def _less(self, taken: Taken, limit: int, fail: Fail) -> int:
        """Make the next try smaller; the most tokens that it may take."""
        if self.lanes.evict():
            return limit
        if any(tokens > 1 for _, tokens in taken) and limit > CHUNK_UNIT:
            return limit // 2
        self._give_way(fail)
        return limit

    def _give_way(self, fail: Fail) -> None:
        """The youngest waits again, or the only one ends."""
        if len(self.lanes.running) > 1:
            self.lanes.preempt()
        else:
            fail(self.lanes.running[0], "the KV cache has no room for this answer")

    def _of(self, adapter: int) -> list[Answer]:
        """Running answers of this adapter, in the order of arrival."""
        return [answer for answer in self._present() if answer.adapter == adapter]

    def _beside(self, adapter: int) -> int:
        """Answers that generate, or soon will, and wait for the step at hand: those of other adapters, and those that
        are suspect beside what is not, or the other way round."""
        return _short(self._may()) - _short(self._of(adapter))

    def _plan(self, adapter: int, limit: int, fail: Fail) -> Taken:
        running = self._of(adapter)
        if not self.lanes.kv.bounded and len(running) <= limit and all(answer.pending == 1 for answer in running):
            return self.arrange([(answer, 1) for answer in running])
        while running:
            pending = [answer.pending for answer in running]
            wide = sum(1 for a in running if a.prompt_logprobs is not None and a.first is None)
            most = max(1, PROMPT_ROWS // wide) if wide else limit
            limits = [most if a.prompt_logprobs is not None and a.first is None else limit for a in running]
            may = turns(pending, [answer.fed for answer in running])
            limits = [tokens if now else 0 for tokens, now in zip(limits, may, strict=True)]
            if any(answer.shown for answer in running):  # text, or a picture, at a time
                limits = [min(n, answer.shown.reach(answer.fed)) for n, answer in zip(limits, running, strict=True)]
            free = limit
            if self.lanes.kv.bounded:
                self.lanes.make_room(min(limit, sum(pending)))
                free = self.lanes.kv.free
                if free < sum(1 for tokens in pending if tokens == 1) or free == 0:
                    self._give_way(fail)
                    running = self._of(adapter)
                    continue
            # Of neighbouring streams llama.cpp first takes as many tokens as the shortest has: one, beside generation.
            chunk = self._pace.chunk(*backlog(pending))
            chunk += chunk > 0 and not self.lanes.kv.shared
            prompt = self._bound.tokens
            if any(answer.batch for answer in running):
                prompt = min(prompt, self._pace.within(STEP_SECONDS))
            plan = plan_step(
                pending, limits, chunk=chunk, burst=self._pace.burst, prompt=prompt, batch=limit, free=free,
                beside=self._beside(adapter),
            )  # fmt: skip
            taken = [(a, a.shown.whole(a.fed, tokens)) for a, tokens in zip(running, plan, strict=True) if tokens]
            if self.lanes.kv.bounded and sum(tokens for _, tokens in taken) > free:
                self._give_way(fail)
                running = self._of(adapter)
                continue
            return self.arrange(taken)
        return []

    def _isolate(self, taken: Taken, reason: str, fail: Fail) -> Taken:
        """A batch failed: its answers start over one at a time; what fails alone is what fails."""
        log.error("a step failed: %s", reason)
        for answer, tokens in reversed(taken):
            if len(taken) == 1:
                fail(answer, reason)
                continue
            answer.suspected(answer.fed + tokens)
            answer.tried = self._steps
            self.lanes.back(answer)
        return []


def _short(answers: list[Answer]) -> int:
    """How many generate, or have little left of their prompts."""
    return sum(1 for answer in answers if answer.pending <= SHORT_PROMPT)
