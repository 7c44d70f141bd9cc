"""Which texts are computed next: of all requests in turn, so that a long list keeps nobody waiting. Pure."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from llmservice_runtime.protocol.pooling import PoolInput, Vector

TEXTS = 64
"""Of one step..."""
BATCH_TEXTS = 8
"""...and of one of batch work."""


@dataclass(slots=True, eq=False)
class Job:
    """A request: its texts, and what they became. Long texts come first: what is computed together is of a length."""

    inputs: Sequence[PoolInput]
    tell: Callable[[Exception | None], None]
    """Called once, by the thread that computes: all vectors are there, or there will be none."""
    arrived: float
    batch: bool = False
    """It computes only where no other one waits."""
    begun: float | None = None
    cancelled: bool = False
    broken: int | None = None
    """The text of which the model computed no numbers."""
    left: deque[int] = field(init=False)
    """Texts that no step has taken, by number."""
    open: int = field(init=False)
    """Texts that are not computed."""
    vectors: list[Vector] = field(init=False)

    def __post_init__(self) -> None:
        self.left = deque(sorted(range(len(self.inputs)), key=lambda number: -len(self.inputs[number].tokens)))
        self.open = len(self.inputs)
        self.vectors = [array("f")] * len(self.inputs)


Taken = list[tuple[Job, int]]


class Turns:
    """The requests that wait, in the order of their turns."""

    def __init__(self, tokens: int, *, padded: bool) -> None:
        """`tokens`: of one step, unless one text has more. `padded`: a text takes as much as the longest beside it."""
        self._tokens = tokens
        self._padded = padded
        self._live: deque[Job] = deque()
        self._batch: deque[Job] = deque()

    def __len__(self) -> int:
        return len(self._live) + len(self._batch)

    def add(self, job: Job) -> None:
        """At the end of those of its kind."""
        (self._batch if job.batch else self._live).append(job)

    def drop_cancelled(self) -> None:
        """Forget those that nobody waits for."""
        self._live, self._batch = (
            deque(job for job in jobs if not job.cancelled) for jobs in (self._live, self._batch)
        )

    def everything(self) -> list[Job]:
        """All of them, which then wait no longer."""
        jobs = [*self._live, *self._batch]
        self._live, self._batch = deque(), deque()
        return jobs

    def take(self) -> Taken:
        """What the next step computes: a text of each request in turn, as long as there is room. Batch work has steps
        of its own, small ones: a live request waits for the one at hand."""
        if self._live or not self._batch:
            return self._of(self._live, TEXTS)
        return self._of(self._batch, BATCH_TEXTS)

    def _of(self, jobs: deque[Job], most: int) -> Taken:
        taken: Taken = []
        used = longest = 0
        while jobs and len(taken) < most:
            job = jobs[0]
            length = len(job.inputs[job.left[0]].tokens)
            longest = max(longest, length)
            used = longest * (len(taken) + 1) if self._padded else used + length
            if taken and used > self._tokens:
                break
            taken.append((job, job.left.popleft()))
            jobs.rotate(-1)
            if not job.left:
                jobs.remove(job)
        return taken
