"""What was decided, with everything that led to it: data, for status, Events and `llmservice explain`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from llmservice_scaling.demand import Wanted
from llmservice_scaling.signals import Validity
from llmservice_scaling.state import State


class Reason(StrEnum):
    """What decided."""

    WANTED = "Wanted"
    """A signal asks for more."""
    GROWTH_LIMITED = "GrowthLimited"
    """It asks for more than may be added at a time."""
    STEADY = "Steady"
    WINDOW = "Window"
    """Fewer would do, but not for long enough yet."""
    LOWERED = "Lowered"
    """Fewer would have done at any time in the window."""
    LOWERING = "Lowering"
    """The same, and some went a moment ago: they go in steps."""
    CAUGHT_UP = "CaughtUp"
    """What waited while most replicas started is done, and fewer do what comes."""
    IDLE = "Idle"
    """Nobody has asked for idleSeconds."""
    NOT_IDLE_YET = "NotIdleYet"
    """The last one stays until nobody has asked for idleSeconds, and while one starts that somebody waited for."""
    WARM_FLOOR = "WarmFloor"
    HELD = "Held"
    """Something is not known: nothing goes."""
    MIN_REPLICAS = "MinReplicas"
    MAX_REPLICAS = "MaxReplicas"


@dataclass(frozen=True, slots=True)
class Explained:
    """One signal, and what would come of it alone."""

    wanted: Wanted
    limited: int | None
    """`wanted.replicas` as far as growth allows."""
    bounded: int | None
    """That, within the bounds."""
    why: str
    """Why it moved the count or did not."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How many replicas there are to be; a sentence for status and Events; each signal."""

    replicas: int
    before: int
    reason: Reason
    sentence: str
    signals: tuple[Explained, ...]
    highest: int
    """Wanted in the down-window."""
    streams: int
    """Replicas without which not all that runs would have a place."""
    warm_floor: int
    idle_seconds: float | None
    """For how long nobody has asked; None = somebody does, or it is not known."""

    @property
    def metrics_available(self) -> bool:
        """Every signal is known."""
        return not any(one.wanted.holds for one in self.signals)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to do, and what to bring to the next decision."""

    decision: Decision
    state: State


def why(wanted: Wanted, limited: int | None, bounded: int | None, decided: int, current: int) -> str:
    """Of one signal: why it moved the count or did not."""
    match wanted.validity:
        case Validity.NOT_MEASURED:
            return "nothing to measure it against yet: it neither raises nor holds"
        case Validity.MISSING:
            return "nobody told it: nothing goes"
        case Validity.NOT_A_NUMBER:
            return f"{wanted.value} is no number that can be: nothing goes"
        case Validity.STALE:
            return f"told {wanted.age or 0.0:.0f} s ago, too long to be believed: nothing goes"
        case _:
            pass
    assert wanted.replicas is not None and limited is not None and bounded is not None and wanted.raw is not None
    partly = "not all were heard, so it may raise and nothing goes; " if wanted.validity is Validity.PARTIAL else ""
    partly += "no more than there are requests; " if wanted.capped else ""
    if wanted.replicas > current:
        less = "" if limited == wanted.replicas else f", {limited} at a time"
        less += "" if bounded == limited else f", {bounded} within the bounds"
        moved = "the most that is wanted" if bounded == decided else "another decides"
        return f"{partly}wants {wanted.replicas}{less}: {moved}"
    if wanted.replicas == current:
        off = abs(wanted.raw - current) > 0.05 and not wanted.capped and f" ({wanted.raw:.2f} is near enough)"
        return f"{partly}wants what there is{off or ''}"
    return f"{partly}{wanted.replicas} would do"
