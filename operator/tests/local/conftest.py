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


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    """A machine where `demo` (two replicas) serves and `broken` does not; for tests that change nothing."""
    folder = tmp_path_factory.mktemp("running")
    made = Here(folder, fake_engines(folder / "engines"))
    file = made.write(manifest("broken", uri="file://none.gguf"), manifest("demo", replicas=2))
    made.said = made.run("up", "-f", file, "--port", "0", "--detach", "--timeout", "30")
    yield made
    made.end()
