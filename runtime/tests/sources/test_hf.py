"""hf:// against a server that speaks the hub's protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.sources.download import fetch
from llmservice_runtime.sources.errors import SourceError
from llmservice_runtime.sources.files import Source
from llmservice_runtime.sources.open import open_model
from llmservice_runtime.sources.progress import Silent
from llmservice_runtime.sources.secrets import Secrets
from llmservice_runtime.sources.settings import SourceSettings
from tests.sources.servers import COMMIT, Reply, Server, certificate, hf_hub, noise

WEIGHTS = noise(3_000_000)
FILES = {"config.json": b'{"model_type": "llama"}', "model.safetensors": WEIGHTS, "sub/extra.bin": noise(5000, 2)}
API = "/api/models/acme/tiny/revision/main"
CDN = "/cdn/model.safetensors"
Make = Callable[..., Server]


@pytest.fixture
def hub(make_server: Make) -> Server:
    """The hub and, at another origin, its CDN."""
    cdn = make_server(hf_hub(FILES, cdn="x"))
    server = make_server(hf_hub(FILES, cdn=cdn.url))
    server.cdn = cdn  # type: ignore[attr-defined]
    return server


def opened(server: Server, settings: SourceSettings, secrets: Secrets, revision: str | None = None) -> Source:
    return open_model(
        "hf://acme/tiny", revision, base=Path(), secrets=secrets, settings=replace(settings, hf_endpoint=server.url)
    )


def test_the_branch_is_resolved_once_and_headers_are_small_ranges(
    hub: Server, settings: SourceSettings, no_secrets: Secrets
) -> None:
    files = opened(hub, settings, no_secrets)
    assert files.revision == COMMIT
    assert [(e.path, e.size) for e in files.entries()] == sorted((n, len(d)) for n, d in FILES.items())
    assert files.read("model.safetensors", 1000, 50) == WEIGHTS[1000:1050]
    assert files.read("model.safetensors", len(WEIGHTS) - 10, 50) == WEIGHTS[-10:]
    assert files.read("model.safetensors", len(WEIGHTS) + 5, 50) == b""
    ranges = hub.cdn.ranges(CDN)  # type: ignore[attr-defined]
    assert ranges == ["bytes=1000-1049", f"bytes={len(WEIGHTS) - 10}-{len(WEIGHTS) - 1}"]


def test_a_token_goes_to_the_hub_and_never_to_the_cdn(make_server: Make, settings: SourceSettings) -> None:
    cdn = make_server(hf_hub(FILES, cdn="x"))
    server = make_server(hf_hub(FILES, token="hf_secret", cdn=cdn.url))
    files = opened(server, settings, Secrets(environ={"HF_TOKEN": "hf_secret"}))
    assert files.read("model.safetensors", 0, 8) == WEIGHTS[:8]
    assert settings.cache
    fetch(files, ["model.safetensors"], settings.cache, Silent())
    assert all("authorization" not in r.headers for r in cdn.requests)


def test_the_download_is_whole_and_stands_in_the_documented_place(
    hub: Server, settings: SourceSettings, no_secrets: Secrets, tmp_path: Path
) -> None:
    files = opened(hub, settings, no_secrets)
    folder = fetch(files, list(FILES), tmp_path / "cache", Silent())
    assert folder == tmp_path / "cache/models/hf/acme--tiny" / COMMIT
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == set(FILES)
    assert all((folder / name).read_bytes() == data for name, data in FILES.items())
    before = len(hub.requests)
    assert fetch(files, list(FILES), tmp_path / "cache", Silent()) == folder
    assert len(hub.requests) == before


def test_a_cut_connection_is_resumed_within_one_download(
    hub: Server, settings: SourceSettings, no_secrets: Secrets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100_000)
    cdn: Server = hub.cdn  # type: ignore[attr-defined]
    cdn.faults[CDN] = [lambda reply: replace(reply, cut_after=2_000_000)]
    folder = fetch(opened(hub, settings, no_secrets), ["model.safetensors"], tmp_path / "cache", Silent())
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert cdn.ranges(CDN) == [None, "bytes=2000000-"]


def test_a_download_that_died_is_continued_by_the_next_run(
    hub: Server, settings: SourceSettings, no_secrets: Secrets, tmp_path: Path
) -> None:
    part = tmp_path / "cache/models/hf/acme--tiny" / f".{COMMIT}.partial" / "model.safetensors.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(WEIGHTS[:1_234_567])
    folder = fetch(opened(hub, settings, no_secrets), ["model.safetensors"], tmp_path / "cache", Silent())
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.cdn.ranges(CDN) == ["bytes=1234567-"]  # type: ignore[attr-defined]


def test_wrong_bytes_are_refused_and_removed(
    hub: Server, settings: SourceSettings, no_secrets: Secrets, tmp_path: Path
) -> None:
    cdn: Server = hub.cdn  # type: ignore[attr-defined]
    cdn.faults[CDN] = [Reply(200, b"x" * len(WEIGHTS))]
    files = opened(hub, settings, no_secrets)
    with pytest.raises(SourceError, match="SHA-256") as caught:
        fetch(files, ["model.safetensors"], tmp_path / "cache", Silent())
    assert caught.value.failure is FailureClass.MODEL_DAMAGED
    folder = fetch(files, ["model.safetensors"], tmp_path / "cache", Silent())
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("fault", "failure", "word"),
    [
        (Reply(401, b"{}", {"X-Error-Code": "RepoNotFound"}), FailureClass.MODEL_GATED, "HF_TOKEN"),
        (Reply(403, b"{}", {"X-Error-Code": "GatedRepo"}), FailureClass.MODEL_GATED, "license"),
        (Reply(403), FailureClass.MODEL_GATED, "HF_TOKEN"),
        (Reply(404, b"{}", {"X-Error-Code": "RepoNotFound"}), FailureClass.MODEL_NOT_FOUND, "repository acme/tiny"),
        (Reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"}), FailureClass.MODEL_NOT_FOUND, "revision main"),
        (Reply(200, b"<html>log in</html>", {"Content-Type": "text/html"}), FailureClass.BAD_ARGUMENT, "text/html"),
    ],
)
def test_what_the_hub_says_becomes_a_sentence(
    hub: Server, settings: SourceSettings, no_secrets: Secrets, fault: Reply, failure: FailureClass, word: str
) -> None:
    hub.faults[API] = [fault]
    with pytest.raises(SourceError) as caught:
        opened(hub, settings, no_secrets)
    assert caught.value.failure is failure
    assert word in str(caught.value)
    assert "hf://acme/tiny" in caught.value.reason


def test_passing_troubles_are_retried_and_retry_after_is_honoured(
    hub: Server, settings: SourceSettings, no_secrets: Secrets, sleeps: list[float]
) -> None:
    hub.faults[API] = [Reply(429, b"", {"Retry-After": "17"}), Reply(503)]
    assert opened(hub, settings, no_secrets).revision == COMMIT
    assert sleeps == [17.0, 1.0]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_lasting_troubles_end_after_bounded_attempts(
    hub: Server, settings: SourceSettings, no_secrets: Secrets, sleeps: list[float], status: int
) -> None:
    hub.faults[API] = [Reply(status) for _ in range(9)]
    with pytest.raises(SourceError, match=str(status)) as caught:
        opened(hub, settings, no_secrets)
    assert caught.value.failure is FailureClass.HUB_UNREACHABLE
    assert len(sleeps) == settings.attempts - 1


def test_a_download_that_is_refused_says_so(
    hub: Server, settings: SourceSettings, no_secrets: Secrets, tmp_path: Path
) -> None:
    files = opened(hub, settings, no_secrets)
    hub.faults[f"/acme/tiny/resolve/{COMMIT}/model.safetensors"] = [Reply(503), Reply(403)]
    with pytest.raises(SourceError) as caught:
        fetch(files, ["model.safetensors"], tmp_path / "cache", Silent())
    assert caught.value.failure is FailureClass.MODEL_GATED


def test_a_hub_that_is_not_there_is_unreachable(
    settings: SourceSettings, no_secrets: Secrets, sleeps: list[float]
) -> None:
    gone = Server("http://127.0.0.1:9", 9)
    with pytest.raises(SourceError) as caught:
        opened(gone, settings, no_secrets)
    assert caught.value.failure is FailureClass.HUB_UNREACHABLE
    assert "http://127.0.0.1:9" in caught.value.reason


def test_a_listing_that_leaves_its_folder_is_refused(
    make_server: Make, settings: SourceSettings, no_secrets: Secrets
) -> None:
    with pytest.raises(SourceError, match="file name"):
        opened(make_server(hf_hub({"../../evil": b"x"})), settings, no_secrets)


def test_no_message_holds_the_token(make_server: Make, settings: SourceSettings) -> None:
    secrets = Secrets(environ={"HF_TOKEN": "hf_wrong"})
    with pytest.raises(SourceError) as caught:
        opened(make_server(hf_hub(FILES, token="hf_right")), settings, secrets)
    assert "hf_wrong" not in str(caught.value) + repr(secrets) + repr(caught.value)


def test_an_answer_of_another_shape_is_no_traceback(hub: Server, settings: SourceSettings, no_secrets: Secrets) -> None:
    for answer in (b"[]", b"{}", b'{"sha": "abc", "siblings": [{"name": 1}]}', b'{"sha": "abc", "siblings": 5}'):
        hub.faults[API] = [Reply(200, answer)]
        with pytest.raises(SourceError, match=r"endpoint|HF_ENDPOINT|files"):
            opened(hub, settings, no_secrets)


def test_a_file_beyond_the_limit_of_http_comes_by_the_library_whole(
    hub: Server, settings: SourceSettings, no_secrets: Secrets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = opened(hub, settings, no_secrets)
    held: list[int] = []
    monkeypatch.setattr("huggingface_hub.constants.MAX_HTTP_DOWNLOAD_SIZE", 1_000_000)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", _pretend(held))
    folder = fetch(files, ["model.safetensors"], tmp_path / "cache", Silent())
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert [p.name for p in folder.iterdir()] == ["model.safetensors"]
    assert held == [1]


def _pretend(calls: list[int]) -> Callable[..., str]:
    """The chunk protocol needs a server of its own; only the call's end is played here."""

    def download(repository: str, path: str, *, local_dir: Path, **_: object) -> str:
        calls.append(1)
        target = Path(local_dir) / path
        target.parent.mkdir(parents=True)
        target.write_bytes(FILES[path])
        return str(target)

    return download


def test_a_token_that_no_header_can_carry_is_refused_without_being_shown(hub: Server, settings: SourceSettings) -> None:
    with pytest.raises(SourceError, match="HF_TOKEN") as caught:
        opened(hub, settings, Secrets(environ={"HF_TOKEN": "hf_abc\nX-Evil: 1"}))
    assert "hf_abc" not in str(caught.value)


def test_the_library_downloads_over_tls_with_the_extra_bundle(
    make_server: Make, settings: SourceSettings, no_secrets: Secrets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import close_session

    context, bundle = certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    server = make_server(hf_hub(FILES), tls=context)
    close_session()
    folder = fetch(opened(server, settings, no_secrets), ["model.safetensors"], tmp_path / "cache", Silent())
    close_session()
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
