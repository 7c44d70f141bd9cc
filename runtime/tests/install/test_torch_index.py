"""torch for CPUs comes from an index of its own where that can be reached, else with CUDA's libraries from the other.

Both indexes are loopback servers with small wheels; uv is the real one.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.engines import registry
from llmservice_runtime.engines.base.recipe import DistInfo, Layer, Recipe, Slim
from llmservice_runtime.install import layers, space, uv
from llmservice_runtime.install.environment import engine_python, installed_engines
from llmservice_runtime.install.errors import InstallError
from llmservice_runtime.install.make import Install, install
from llmservice_runtime.machine.machine import Device

PYTHON = f"cp{sys.version_info.major}{sys.version_info.minor}"
MACHINE = space.target().partition("-")[0]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def index(folder: Path) -> Iterator[str]:
    """A simple index of the wheels below `folder`, a folder per package."""
    for package in filter(Path.is_dir, folder.iterdir()):
        links = (
            f'<a href="{wheel.name}#sha256={hashlib.sha256(wheel.read_bytes()).hexdigest()}">{wheel.name}</a>'
            for wheel in package.glob("*.whl")
        )
        (package / "index.html").write_text("<!DOCTYPE html><html><body>" + "".join(links) + "</body></html>")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def wheel(folder: Path, name: str, version: str, tag: str, text: str) -> str:
    """Make one; its entry in a lock."""
    file = folder / name.replace("_", "-") / f"{name}-{version}-{tag}.whl"
    file.parent.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(file, "w") as made:
        made.writestr(f"{name}/__init__.py", text)
        made.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        made.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n")
        made.writestr(f"{info}/RECORD", "")
    return f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An engine `small` on a layer `torch`, of which a slim build stands in an index of its own."""
    packages, slim = tmp_path / "packages", tmp_path / "slim"
    torch = wheel(packages, "torch", "9.0", "py3-none-any", "build = 'cuda'\n")
    big = wheel(packages, "nvidia_all", "1.0", "py3-none-any", "")
    engine = wheel(packages, "small", "1.0", "py3-none-any", "import torch\nbuild = torch.build\n")
    tag = f"{PYTHON}-{PYTHON}-manylinux_2_28_{MACHINE}"
    (tmp_path / "slim.lock").write_text(wheel(slim, "torch", "9.0+cpu", tag, "build = 'cpu'\n"))
    (tmp_path / "torch.lock").write_text(torch + big)
    (tmp_path / "engine.lock").write_text(torch + big + engine)
    monkeypatch.setenv("LLMSERVICE_ENGINES_DIR", str(tmp_path / "engines"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "UV_INDEX", layers.INDEX_ENV):
        monkeypatch.delenv(name, raising=False)
    with index(packages) as address:
        monkeypatch.setenv("UV_DEFAULT_INDEX", address)
        yield tmp_path


def recipe(world: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    layer = Layer("torch", world / "torch.lock", Slim(world / "slim.lock", address))
    made = Recipe(world / "engine.lock", layers=(layer,), dist_infos=(DistInfo("other-name", "1.0+x"),))
    cuda = replace(made, layers=(replace(layer, slim=None),), devices=frozenset({Device.NVIDIA}))
    definition = replace(registry.definition(EngineType.VLLM), recipe=replace(made, cuda=cuda))
    monkeypatch.setattr(registry, "definition", lambda engine: definition)


def build_of(engine: EngineType) -> str:
    code = "import small; from importlib.metadata import version; print(small.build, version('other_name'))"
    run = subprocess.run([engine_python(engine), "-c", code], capture_output=True, text=True, check=True)
    return run.stdout.strip()


def layers_in(world: Path) -> list[Path]:
    return [folder for folder in (world / "engines").glob("torch-*") if folder.is_dir()]


def test_the_slim_build_is_taken_where_its_index_answers(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with index(world / "slim") as address:
        recipe(world, monkeypatch, address)
        install(Install(EngineType.VLLM, device="cpu"))
    assert build_of(EngineType.VLLM) == "cpu 1.0+x"
    (layer,) = layers_in(world)
    assert not (layer / "nvidia_all").exists()
    said = capsys.readouterr().err
    assert f"torch comes from {address}" in said
    # It is there now: nothing is asked any more, with the index gone too.
    install(Install(EngineType.VLLM, device="cpu"))
    assert layers_in(world) == [layer]


def test_without_that_index_the_full_one_is_taken(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe(world, monkeypatch, "http://127.0.0.1:9")
    install(Install(EngineType.VLLM, device="cpu"))
    assert build_of(EngineType.VLLM) == "cuda 1.0+x"
    assert "torch comes from the package index" in capsys.readouterr().err


def test_a_mirror_is_named_by_a_variable_and_other_files_than_the_locked_are_not_taken(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = Layer("torch", world / "torch.lock", Slim(world / "slim.lock", "http://127.0.0.1:9"))
    with index(world / "slim") as address:
        environ = {layers.INDEX_ENV: address}
        assert layers.choose(layer, world / "engines", environ).index == address
        assert layers.choose(layer, world / "engines", {layers.INDEX_ENV: ""}).lock == layer.lock
        (world / "slim.lock").write_text("torch==9.0+cpu \\\n    --hash=sha256:" + "0" * 64 + "\n")
        assert layers.choose(layer, world / "engines", environ).lock == layer.lock


def test_on_a_gpu_the_full_one_is_taken(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with index(world / "slim") as address:
        recipe(world, monkeypatch, address)
        install(Install(EngineType.VLLM, device="cuda"))
    assert build_of(EngineType.VLLM).startswith("cuda")


def test_a_layer_that_was_not_finished_is_made_again(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe(world, monkeypatch, "http://127.0.0.1:9")
    install(Install(EngineType.VLLM, device="cpu"))
    (layer,) = layers_in(world)
    (layer / "complete").unlink()
    (layer / "torch" / "__init__.py").unlink()
    assert not installed_engines()[EngineType.VLLM]
    with pytest.raises(UserError, match="not installed"):
        engine_python(EngineType.VLLM)
    install(Install(EngineType.VLLM, device="cpu"))
    assert build_of(EngineType.VLLM).startswith("cuda")


def test_a_layer_that_no_lock_leads_to_any_more_is_removed(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe(world, monkeypatch, "http://127.0.0.1:9")
    install(Install(EngineType.VLLM, device="cpu"))
    (before,) = layers_in(world)
    (world / "torch.lock").write_text("# raised\n" + (world / "torch.lock").read_text())
    assert install(Install(EngineType.VLLM, device="cpu"))
    (now,) = layers_in(world)
    assert now != before and build_of(EngineType.VLLM).startswith("cuda")


def test_a_disk_without_room_is_said_before_anything_is_fetched(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe(world, monkeypatch, "http://127.0.0.1:9")
    huge = {space.target(): [3_100_000_000, 10**18]}
    (world / "torch.sizes.json").write_text(json.dumps(huge))
    with pytest.raises(UserError) as error:
        install(Install(EngineType.VLLM, device="cpu"))
    assert error.value.failure is FailureClass.DISK_FULL
    assert str(world / "engines") in error.value.reason and "1000000000.0 GB" in error.value.reason
    assert "LLMSERVICE_ENGINES_DIR" in error.value.remedy
    assert "at most 3.1 GB to fetch" in capsys.readouterr().err
    assert not layers_in(world)


def test_without_a_network_the_error_says_what_to_check(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe(world, monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(InstallError) as error:
        install(Install(EngineType.VLLM, device="cpu"))
    assert error.value.reason.startswith("Installing torch failed") and "network" in error.value.remedy
    assert not installed_engines()[EngineType.VLLM]


def test_pip_is_asked_where_the_packages_are() -> None:
    of_pip = {"index-url": "https://mirror.example/simple", "find-links": "/a\n/b", "cert": "/ca.pem", "timeout": "9"}
    assert uv.settings({"SSL_CERT_FILE": "/mine.pem"}, of_pip) == {
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "UV_FIND_LINKS": "/a,/b",
    }
