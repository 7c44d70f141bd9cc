"""Settings of every test: a property holds or it does not, however busy the machine is."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from every_engine.tally import chosen, ran, shortfall  # type: ignore[import-not-found]
from hypothesis import settings

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.install.environment import engines_dir, installed_engines

settings.register_profile("here", deadline=None)
settings.load_profile("here")


@pytest.fixture(scope="session")
def installed() -> Callable[[EngineType], None]:
    """installed(engine) fails where it is not: a test that is skipped looks like one that has passed."""

    def check(engine: EngineType) -> None:
        if not installed_engines()[engine]:
            pytest.fail(f"{engine.value} is not in {engines_dir()}; install it: make .venv/.engines", pytrace=False)

    return check


FEWER = 9
"""Exit code when an engine ran fewer tests than the others: no test has failed that could be run again."""
_ENGINE = re.compile(r"runtime/tests/(?:(vllm|transformers|pooling)/|every_engine/[^\[]*\[(\w+))")


def group(nodeid: str) -> str:
    """What one worker runs one after the other: the tests of one engine's processes, and those of vectors, over the
    same models. Any other test is alone."""
    found = _ENGINE.match(nodeid)
    return next(filter(None, found.groups())) if found else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadgroup`, by names: xdist writes its groups to an attribute that pytest no longer reads."""
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class ByEngine(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    return ByEngine(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tests of the contract by engine."""
    if counts := ran(terminalreporter):
        told = ", ".join(f"{engine} {count}" for engine, count in sorted(counts.items()))
        terminalreporter.section("the contract of every engine")
        terminalreporter.line(f"tests that ran: {told}")
        if problem := _shortfall(terminalreporter.config, counts):
            terminalreporter.line(f"error: {problem}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A run that is good but for an engine that ran fewer tests is none."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and _shortfall(session.config, ran(reporter)):
        session.exitstatus = FEWER


def _shortfall(config: pytest.Config, counts: object) -> str:
    """Of a whole run."""
    if chosen(config) or not counts:
        return ""
    from every_engine.engines import ENGINES  # type: ignore[import-not-found]

    found: str = shortfall(counts, tuple(engine.folder for engine in ENGINES))
    return found
