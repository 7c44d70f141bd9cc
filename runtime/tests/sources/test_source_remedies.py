"""What a message about a source says to do, done: the model is read and brought here. docs/remedies.md lists these."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.formats.facts import ModelFormat
from llmservice_runtime.formats.inspect import inspect_model
from llmservice_runtime.sources.download import fetch
from llmservice_runtime.sources.open import open_model
from llmservice_runtime.sources.progress import Silent
from llmservice_runtime.sources.secrets import Secrets
from llmservice_runtime.sources.settings import SourceSettings
from tests.sources.servers import Reply, Server, hf_hub

Make = Callable[..., Server]
GGUF = (Path(__file__).parents[2] / "demo/model/demo-Q4_K_M.gguf").read_bytes()
FILES = {"demo-Q4_K_M.gguf": GGUF, "demo-Q8_0.gguf": GGUF}
ONE = ("*Q4_K_M*",)


def brought(
    settings: SourceSettings,
    cache: Path,
    uri: str = "hf://acme/tiny",
    revision: str | None = None,
    include: tuple[str, ...] = ONE,
    expected: ModelFormat | None = None,
    **secrets: str,
) -> bytes:
    """Read its headers and bring it here, as a prepare Job does; the file's content."""
    files = open_model(uri, revision, base=Path("/"), secrets=Secrets(environ=secrets), settings=settings)
    facts = inspect_model(files, include, expected)
    return (fetch(files, facts.files, cache, Silent()) / facts.files[0]).read_bytes()


@pytest.fixture
def cache(settings: SourceSettings) -> Path:
    assert settings.cache is not None
    return settings.cache


@pytest.fixture
def hub(make_server: Make, settings: SourceSettings) -> tuple[Server, SourceSettings]:
    server = make_server(hf_hub(FILES))
    return server, replace(settings, hf_endpoint=server.url)


def test_a_hub_that_is_away_is_reached_at_its_right_endpoint_or_not_needed(
    hub: tuple[Server, SourceSettings], cache: Path, tmp_path: Path
) -> None:
    _, right = hub
    with pytest.raises(UserError) as caught:
        brought(replace(right, hf_endpoint="http://127.0.0.1:9"), cache)
    assert caught.value.failure is FailureClass.HUB_UNREACHABLE
    assert "the endpoint, or use a model that is already on this machine (file://)" in caught.value.remedy
    assert brought(right, cache) == GGUF
    (tmp_path / "m.gguf").write_bytes(GGUF)
    wrong = replace(right, hf_endpoint="http://127.0.0.1:9")
    files = open_model(f"file://{tmp_path}/m.gguf", None, base=Path("/"), secrets=Secrets(environ={}), settings=wrong)
    assert inspect_model(files, (), None).files


def test_an_endpoint_that_is_no_hub_is_corrected(
    make_server: Make, hub: tuple[Server, SourceSettings], cache: Path
) -> None:
    _, right = hub
    mirror = make_server(lambda _: Reply(200, b"[]"))
    with pytest.raises(UserError) as caught:
        brought(replace(right, hf_endpoint=mirror.url), cache)
    assert caught.value.remedy == "Check HF_ENDPOINT."
    assert brought(right, cache) == GGUF


def test_a_gated_model_is_read_with_the_token_that_is_asked_for(
    make_server: Make, settings: SourceSettings, cache: Path
) -> None:
    right = replace(settings, hf_endpoint=make_server(hf_hub(FILES, token="hf_x")).url)
    with pytest.raises(UserError) as caught:
        brought(right, cache)
    assert caught.value.failure is FailureClass.MODEL_GATED
    assert "HF_TOKEN" in caught.value.remedy and "secretRef" in caught.value.remedy
    assert brought(right, cache, HF_TOKEN="hf_x") == GGUF


@pytest.mark.parametrize(("uri", "revision"), [("hf://acme/Tiny", None), ("hf://acme/tiny", "mian")])
def test_what_is_missing_is_there_in_the_right_spelling(
    hub: tuple[Server, SourceSettings], cache: Path, uri: str, revision: str | None
) -> None:
    with pytest.raises(UserError) as caught:
        brought(hub[1], cache, uri, revision)
    assert caught.value.failure is FailureClass.MODEL_NOT_FOUND
    assert "Check the spelling, upper and lower case, and spec.model.revision" in caught.value.remedy
    assert brought(hub[1], cache, revision="main") == GGUF


def test_what_came_damaged_is_whole_at_the_next_try(hub: tuple[Server, SourceSettings], cache: Path) -> None:
    server, right = hub

    def spoil(reply: Reply) -> Reply:
        return replace(reply, body=reply.body[:-9] + b"x" * 9) if len(reply.body) > 100_000 else reply

    server.faults["/cdn/demo-Q4_K_M.gguf"] = [spoil] * 40
    with pytest.raises(UserError) as caught:
        brought(right, cache)
    assert caught.value.failure is FailureClass.MODEL_DAMAGED
    assert "try again" in caught.value.remedy
    server.faults.clear()
    assert brought(right, cache) == GGUF


def test_a_full_disk_is_left_for_another_or_emptied(
    hub: tuple[Server, SourceSettings], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.disk_usage

    def usage(path: Path) -> object:
        full = str(path).startswith(str(cache))
        return shutil._ntuple_diskusage(10**9, 10**9, 1 << 10) if full else real(path)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    with pytest.raises(UserError) as caught:
        brought(hub[1], cache)
    assert caught.value.failure is FailureClass.DISK_FULL
    assert (
        "Free space (`llmservice models prune` removes models that nothing uses), or put the cache"
        in caught.value.remedy
    )
    assert brought(hub[1], tmp_path / "another") == GGUF
    monkeypatch.setattr(shutil, "disk_usage", real)
    assert brought(hub[1], cache) == GGUF


def test_several_files_are_told_apart_by_include(hub: tuple[Server, SourceSettings], cache: Path) -> None:
    with pytest.raises(UserError) as caught:
        brought(hub[1], cache, include=())
    assert "include" in caught.value.remedy
    assert brought(hub[1], cache) == GGUF


def test_a_format_that_is_not_the_expected_one_is_read_without_the_assertion(
    hub: tuple[Server, SourceSettings], cache: Path
) -> None:
    with pytest.raises(UserError) as caught:
        brought(hub[1], cache, expected=ModelFormat.SAFETENSORS)
    assert caught.value.failure is FailureClass.UNSUPPORTED_FORMAT
    assert "expectedFormat" in caught.value.reason + caught.value.remedy
    assert brought(hub[1], cache, expected=ModelFormat.GGUF) == GGUF
    assert brought(hub[1], cache) == GGUF


def test_an_address_inside_is_read_where_the_installation_allows_it(
    make_server: Make, settings: SourceSettings, cache: Path
) -> None:
    from llmservice_runtime.prepare.run import Request, _checked

    server = make_server(lambda request: Reply(200, GGUF))
    request = Request(f"{server.url}/m.gguf", cache)
    with pytest.raises(UserError) as caught:
        _checked(request, Silent())
    assert "privateSources: true" in caught.value.remedy
    assert _checked(replace(request, private=True), Silent()).facts.format is ModelFormat.GGUF
