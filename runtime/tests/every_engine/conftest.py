"""Replicas of every engine. All tests of one run in one worker, over one replica where they leave it as it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmservice_runtime.contract.engines import EngineType

from .api import Api
from .engines import ENGINES
from .replica import Replica

HERE = Path(__file__).parent
if (RUNTIME := str(HERE.parents[1])) not in sys.path:  # the demo model's scripts
    sys.path.append(RUNTIME)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the contract's tests with their engine. The engines' own tests, of which pytest tells us too, are none."""
    for item in items:
        spec = getattr(item, "callspec", None) if HERE in item.path.parents else None
        if spec is not None and isinstance(engine := spec.params.get("engine"), EngineType):
            item.user_properties.append(("engine", engine.folder))


@pytest.fixture(scope="session", params=ENGINES, ids=lambda engine: engine.folder)
def engine(request: pytest.FixtureRequest, installed: Callable[[EngineType], None]) -> EngineType:
    """Each engine under test in turn."""
    found: EngineType = request.param
    installed(found)
    return found


@pytest.fixture(scope="session")
def replica(engine: EngineType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """The one that most tests ask. It stays as it is; the tests that end it come last."""
    made = Replica(tmp_path_factory.mktemp(engine.folder), engine, progress_seconds=20, drain_seconds=120)
    try:
        made.wait_ready()
        yield made
    finally:
        made.stop()


@pytest.fixture
def api(replica: Replica) -> Api:
    """A client of it."""
    return Api(replica.url)


@pytest.fixture
def start(engine: EngineType, tmp_path: Path) -> Iterator[Callable[..., Replica]]:
    """start(**settings) -> a replica of the test's own, which need not get ready."""
    made: list[Replica] = []

    def run(**changes: Any) -> Replica:
        made.append(Replica(tmp_path / str(len(made)), engine, **changes))
        return made[-1]

    yield run
    for one in made:
        one.stop()
