"""A decision in one sentence, the same in status, Events and `llmservice explain`."""

from __future__ import annotations

from llmservice_scaling.decision import Decision, Reason
from llmservice_scaling.demand import Wanted
from llmservice_scaling.rules import Rules
from llmservice_scaling.signals import Signals, Validity


def sentence(decision: Decision, signals: Signals, rules: Rules) -> str:
    """Without a full stop, so that it can stand in a line."""
    count, before = decision.replicas, decision.before
    most = max((one.wanted for one in decision.signals), key=lambda one: one.replicas or 0)
    match decision.reason:
        case Reason.WANTED | Reason.GROWTH_LIMITED | Reason.MAX_REPLICAS:
            limit = {
                Reason.WANTED: "",
                Reason.GROWTH_LIMITED: f"; {count} now, more when 15 s have passed",
                Reason.MAX_REPLICAS: f"; maxReplicas is {rules.max_replicas}",
            }[decision.reason]
            if most.replicas is None or most.replicas < min(decision.highest, count):
                return f"{decision.highest} were wanted in the last {rules.scale_down_seconds:.0f} s{limit}"
            starting = f", {signals.starting} of {before} still start" if signals.starting else ""
            return f"{_measure(most)}{starting}{limit}"
        case Reason.STEADY:
            return _measure(most) if most.replicas else "nothing is asked"
        case Reason.WINDOW:
            window = f"{rules.scale_down_seconds:.0f} s"
            return f"{most.replicas} would do now; {decision.highest} were wanted in the last {window}"
        case Reason.LOWERED | Reason.LOWERING:
            low = max(1, decision.highest)
            more = f"; some go every {rules.step_seconds:.3g} s" if max(low, rules.min_replicas) < count else ""
            return f"no more than {low} were wanted in the last {rules.scale_down_seconds:.0f} s{more}"
        case Reason.CAUGHT_UP:
            return f"what waited for replicas that started is done; {max(1, decision.highest, count)} do what comes"
        case Reason.IDLE:
            return f"nobody asked for {decision.idle_seconds or 0:.0f} s"
        case Reason.NOT_IDLE_YET:
            quiet = decision.idle_seconds
            since = "requests are not over" if quiet is None else f"nobody has asked for {quiet:.0f} s"
            return f"{since}; the last one stays for {rules.idle_seconds:.0f} s"
        case Reason.WARM_FLOOR:
            return f"a schedule keeps {decision.warm_floor} warm now"
        case Reason.MIN_REPLICAS:
            return f"minReplicas is {rules.min_replicas}"
        case Reason.HELD:
            return f"{before} stay, because not everything is known: {unknown(decision)}"


def unknown(decision: Decision) -> str:
    """Which signals are not known, and why; empty when all are."""
    return ", ".join(
        f"{one.wanted.signal} {_WORDS[one.wanted.validity]}" for one in decision.signals if one.wanted.holds
    )


_WORDS = {
    Validity.MISSING: "was not told",
    Validity.STALE: "is too old",
    Validity.NOT_A_NUMBER: "is no number",
    Validity.PARTIAL: "was told in part",
}


def _measure(one: Wanted) -> str:
    if one.value is None or one.target is None or one.replicas is None:
        return "what runs needs them"
    return f"{_number(one.value)} {one.unit} at {_number(one.target)} a replica want {one.replicas}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
