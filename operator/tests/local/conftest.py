"""Machines to run `llmservice` on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine_world import Here, fake_engines, manifest  # type: ignore[import-not-found]
from small_models import embedder, reranker  # type: ignore[import-not-found]


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


@pytest.fixture(scope="package")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    """Real models of several kinds behind one URL: `demo` serves, `cold` leaves memory after a second without work,
    `vectors` embeds and `scores` reranks."""
    made = Here(tmp_path_factory.mktemp("zoo"), None)
    model = Path(__file__).parents[3] / "runtime" / "demo" / "model" / "demo-Q4_K_M.gguf"
    embedder(made.folder / "vectors.gguf")
    reranker(made.folder / "scores.gguf")
    cold = json.loads(manifest("cold", uri=f"file://{model}"))
    cold["spec"]["scaling"] = {"minReplicas": 0, "maxReplicas": 1, "idleSeconds": 1, "scaleDownSeconds": 1}
    file = made.write(
        manifest("demo", uri=f"file://{model}"),
        json.dumps(cold),
        manifest("vectors", uri="file://vectors.gguf"),
        manifest("scores", uri="file://scores.gguf"),
    )
    made.said = made.run("up", "-f", file, "--port", "0", "--detach", "--timeout", "120", seconds=150)
    yield made
    made.end()
