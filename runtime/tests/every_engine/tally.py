"""How many tests of the contract ran on each engine: none may run fewer than the others."""

from __future__ import annotations

from collections import Counter

import pytest


def ran(reporter: pytest.TerminalReporter) -> Counter[str]:
    """Tests by engine. One that was skipped did not run; one that broke before its call did not either."""
    tests = {
        (dict(report.user_properties)["engine"], report.nodeid)
        for outcome in ("passed", "failed", "xfailed")
        for report in reporter.stats.get(outcome, ())
        if report.when == "call" and "engine" in dict(report.user_properties)
    }
    return Counter(engine for engine, _ in tests)


def chosen(config: pytest.Config) -> bool:
    """Whether tests were chosen by hand, or by what failed last time: engines with them."""
    option = config.option
    failed = getattr(option, "lf", False)  # pytest without its cache knows no such option
    return bool(option.keyword or option.markexpr or failed or any("::" in word for word in config.args))


def shortfall(counts: Counter[str], engines: tuple[str, ...]) -> str:
    """What is wrong with the counts, as a sentence; empty = each engine ran as many."""
    most = max(counts.values(), default=0)
    fewer = [f"{engine} ran {counts[engine]}" for engine in engines if counts[engine] < most]
    return f"{', '.join(fewer)} of the {most} tests of the contract" if fewer else ""
