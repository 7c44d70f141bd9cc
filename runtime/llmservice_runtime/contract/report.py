"""How an engine process reports to its supervisor: one JSON object a line, on the file descriptor it was given.

The pipe also carries life: the engine ends when its end of LLMSERVICE_LIFELINE_FD closes, and the supervisor sees EOF
when the engine dies.

With adapters (`RuntimeSettings.adapters_file`) it is told on LLMSERVICE_CONTROL_FD which to load (`contract.adapters`),
and gets ready when it has carried out the first such line.

An engine drains when it gets SIGTERM. One that can't, because the signal means something else to it, says so in its
`ready` line; it is told on LLMSERVICE_CONTROL_FD instead, and gets SIGTERM when it has drained.
"""

from __future__ import annotations

from enum import StrEnum

REPORT_FD_ENV = "LLMSERVICE_REPORT_FD"
"""Write end the engine reports on."""

LIFELINE_FD_ENV = "LLMSERVICE_LIFELINE_FD"
"""Read end; EOF means that the parent is gone, however it died: exit at once."""


CONTROL_FD_ENV = "LLMSERVICE_CONTROL_FD"
"""Read end; a line `{"drain": seconds}` = take no new work, end what still runs after so many seconds, then report
`drained`; a line `{"turn": n, "adapters": [{name, path}]}` = have these adapters loaded and no others, then report
`adapters`."""


class Phase(StrEnum):
    """Load phases in their order; durations are exported and feed the ETA of later starts."""

    STARTING = "Starting"
    LOADING = "Loading"
    WARMING = "Warming"
    SELF_TEST = "SelfTest"
    READY = "Ready"
    DRAINING = "Draining"
    FAILED = "Failed"


class ReportKind(StrEnum):
    """First field (`kind`) of a report line.

    - `phase`: {phase, progress?: 0..1, detail?}
    - `ready`: {port, load_seconds, detail, told?}  the API listens on `port`; `told` = it drains when it is told on
      the control pipe, not by SIGTERM
    - `step`: {running, waiting, steps, seconds?}  at most every second while requests run, at once when they stop;
      `seconds` is what the step at hand takes by the engine's measured speed
    - `adapters`: {turn, loaded: [name], failed: {name: {failure, message}}}  the order of this turn is carried out
    - `drained`: {}  nothing runs any more, and nothing new will
    - `failure`: {failure, message, remedy}  the last line before a failed engine exits
    """

    PHASE = "phase"
    READY = "ready"
    STEP = "step"
    ADAPTERS = "adapters"
    DRAINED = "drained"
    FAILURE = "failure"
