"""A build that the disk has no room for is not begun."""

from __future__ import annotations

import re
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from cluster import around, base, buildah, images, packages, registry
from cluster.console import ClusterError
from cluster.layout import REPOSITORY

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What was begun, in its order; nothing is done."""
    found: list[str] = []

    def build(*_: object) -> str:
        found.append("build")
        return "sha256:0"

    monkeypatch.setenv("LLMSERVICE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(buildah, "build", build)
    monkeypatch.setattr(base, "import_base", lambda: "base")
    monkeypatch.setattr(images, "prune", lambda: found.append("prune"))
    monkeypatch.setattr(packages, "install", lambda needed: None)
    monkeypatch.setattr(around, "UP", dict.fromkeys(around.UP, lambda: found.append("up")))
    return found


def has_free(monkeypatch: pytest.MonkeyPatch, *gigabytes: int) -> None:
    """What the disk has free, each time it is asked; the last one from then on."""
    left = list(gigabytes)
    answer = lambda path: Usage(10**12, 0, (left.pop(0) if len(left) > 1 else left[0]) * 10**9)  # noqa: E731
    monkeypatch.setattr(shutil, "disk_usage", answer)


def test_what_earlier_builds_left_goes_before_a_build_that_has_no_room(
    monkeypatch: pytest.MonkeyPatch, begun: list[str]
) -> None:
    has_free(monkeypatch, 5, 100)
    assert images.build_all(["engines"]) == ["llmservice-runtime:dev-engines-cpu sha256:0"]
    assert begun == ["prune", "build"]


def test_with_room_nothing_is_removed(monkeypatch: pytest.MonkeyPatch, begun: list[str]) -> None:
    has_free(monkeypatch, 100)
    images.build_all(["operator", "engines"])
    assert begun == ["build", "build"]


def test_a_large_image_asks_for_room_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch, begun: list[str]
) -> None:
    has_free(monkeypatch, 5)
    with pytest.raises(ClusterError) as error:
        images.build_all(["operator", "engines"])
    assert "dev-engines-cpu takes up to 18 GB" in error.value.reason and "5 GB free" in error.value.reason
    assert begun == ["prune"]


def test_tests_on_a_cluster_here_ask_for_the_room_of_registry_and_node_before_it_comes_up(
    monkeypatch: pytest.MonkeyPatch, begun: list[str]
) -> None:
    monkeypatch.delenv("E2E_IMAGES", raising=False)
    has_free(monkeypatch, 20)
    with pytest.raises(ClusterError) as error:
        around.around("bare", lambda: Path("none"), ["true"])
    assert "running them takes up to" in error.value.reason and "20 GB free" in error.value.reason
    assert begun == ["prune"]


@pytest.mark.parametrize(("there", "removed"), [(False, ["layers", "pushed"]), (True, ["layers"])])
def test_what_a_cluster_may_still_pull_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, there: bool, removed: list[str]
) -> None:
    found: list[str] = []
    monkeypatch.setenv("LLMSERVICE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(buildah, "prune", lambda: found.append("layers"))
    monkeypatch.setattr(registry, "prune", lambda: found.append("pushed"))
    monkeypatch.setattr(images, "any_cluster", lambda: there)
    images.prune()
    assert found == removed


def test_versions_are_asked_of_every_engine_that_an_image_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LLMSERVICE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(packages, "install", lambda _: None)
    monkeypatch.setattr(buildah, "say", lambda _, commands: {name: words[-1] for name, words in commands.items()})
    text = (REPOSITORY / "runtime/Dockerfile").read_text()
    named = re.findall(r'llmservice\.variant="([^"]+)".*?llmservice\.engines="([^"]+)"', text, re.DOTALL)
    assert {variant for variant, _ in named} == set(images.ENGINES)
    titles = {"VLLM": "vLLM", "Transformers": "Transformers", "LlamaCpp": "llama.cpp"}
    for variant, engines in named:
        assert {titles[engine] for engine in engines.split(",")} == set(images.ENGINES[variant]) - {"PyTorch"}
    (line,) = images.versions(["runtime"])
    assert line == "llmservice-runtime:dev-llamacpp-cpu llama.cpp import llama_cpp; print(llama_cpp.__version__)"
    with pytest.raises(ClusterError, match="llmservice-operator:dev has no engines"):
        images.versions(["runtime", "operator"])


def test_images_for_gpus_are_built_for_them() -> None:
    for name in ("cuda", "engines-cuda"):
        assert images.TOOLS[name].arguments == {"DEVICE": "cuda"} and images.TOOLS[name].target == name
