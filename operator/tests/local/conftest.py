"""Machines to run `llmservice` on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from machine_world import Here, fake_engines, manifest  # type: ignore[import-not-found]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    """A fresh machine with a scripted engine; nothing of it runs after the test."""
    made = Here(tmp_path, fake_engines(tmp_path / "engines"))
    yield made
    made.end()


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    """A machine where `demo` (two replicas) serves and `broken` does not; tests add services but leave these alone."""
    folder = tmp_path_factory.mktemp("running")
    made = Here(folder, fake_engines(folder / "engines"))
    file = made.write(manifest("broken", uri="file://none.gguf"), manifest("demo", replicas=2))
    made.said = made.run("up", "-f", file, "--port", "0", "--detach", "--timeout", "30")
    yield made
    made.end()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    """The demo model of the repository on the real engine."""
    made = Here(tmp_path_factory.mktemp("demo"), None)
    model = Path(__file__).parents[3] / "runtime" / "demo" / "model" / "demo-Q4_K_M.gguf"
    file = made.write(manifest("demo", uri=f"file://{model}"))
    made.said = made.run("up", "-f", file, "--port", "0", "--detach", "--timeout", "60")
    yield made
    made.end()
