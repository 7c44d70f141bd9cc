"""One directory for several containers, each a real `prepare` of its own: who downloads, who waits, who may write."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from llmservice_runtime.contract.failure import FailureClass, FailureRecord
from llmservice_runtime.prepare.report import Prepared
from llmservice_runtime.sources.download import fetch
from llmservice_runtime.sources.errors import SourceError
from llmservice_runtime.sources.files import FileEntry
from llmservice_runtime.sources.headers import HeaderStore
from llmservice_runtime.sources.open import open_model
from llmservice_runtime.sources.progress import Silent
from llmservice_runtime.sources.secrets import Secrets
from llmservice_runtime.sources.settings import SourceSettings
from llmservice_runtime.sources.uri import parse_uri
from tests.sources.servers import COMMIT, Reply, Request, Server, file_reply, hf_hub

NAME = "demo-Q4_K_M.gguf"
WEIGHTS = (Path(__file__).parents[2] / "demo/model" / NAME).read_bytes()
HALF = 1 << 20
ANOTHER_USER = 65532


def started(uri: str, cache: Path, report: Path, hub: str = "", revision: str = "") -> subprocess.Popen[str]:
    """What a replica's init container runs."""
    arguments = [f"--uri={uri}", f"--cache={cache}", f"--report={report}", "--fetch", "--allow-private"]
    return subprocess.Popen(
        [sys.executable, "-m", "llmservice_runtime", "prepare", *arguments, *revision.split()],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | ({"HF_ENDPOINT": hub} if hub else {}),
    )


@pytest.fixture
def directory() -> Iterator[Path]:
    """One of another user, for whom `tmp_path` is closed."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        made = Path(folder) / "models"
        made.mkdir()
        yield made
        made.chmod(0o755)


@contextmanager
def nobody_special() -> Iterator[int]:
    """As a user who is not root, to whom nothing is closed; yields the user."""
    me = os.geteuid()
    if me == 0:
        os.seteuid(ANOTHER_USER)
    try:
        yield os.geteuid()
    finally:
        os.seteuid(me)


def test_when_the_downloader_dies_the_one_that_waits_goes_on_where_it_was(
    make_server: Callable[..., Server], tmp_path: Path
) -> None:
    """The server cuts the first download in the middle and holds its next request until that process is killed."""
    resumed, killed = threading.Event(), threading.Event()

    def handler(request: Request) -> Reply:
        reply = file_reply(request, WEIGHTS, {"ETag": '"one"', "Accept-Ranges": "bytes"})
        return reply if killed.is_set() or len(reply.body) <= HALF else replace(reply, cut_after=HALF)

    def hold(request: Request) -> None:
        if request.headers.get("range", "") == f"bytes={HALF}-":
            resumed.set()
            assert killed.wait(60)

    server = make_server(handler)
    server.before = hold
    uri = f"{server.url}/{NAME}"
    with started(uri, tmp_path / "cache", tmp_path / "first") as first:
        assert resumed.wait(60)
        with started(uri, tmp_path / "cache", tmp_path / "second") as second:
            assert second.stderr
            line = next(text for text in second.stderr if "waiting" in text)
            first.kill()
            first.wait()
            killed.set()
            _, told = second.communicate(timeout=60)
    who = f"process {first.pid} on {socket.gethostname()}"
    assert f"{who} is downloading it and has 1.0 MiB of 2.3 MiB; waiting" in line
    assert second.returncode == 0, told
    assert Path(Prepared.from_json((tmp_path / "second").read_text()).path).read_bytes() == WEIGHTS
    assert [asked for asked in server.ranges(f"/{NAME}") if asked is None or asked.endswith("-")][-2:] == [
        f"bytes={HALF}-",
        f"bytes={HALF}-",
    ]


def test_a_replica_starts_from_what_is_there_while_the_hub_is_away(
    make_server: Callable[..., Server], tmp_path: Path
) -> None:
    hub, cache, fixed = make_server(hf_hub({NAME: WEIGHTS})), tmp_path / "cache", f"--revision={COMMIT}"
    for report, url in (("first", hub.url), ("second", "http://127.0.0.1:9")):
        with started("hf://acme/tiny", cache, tmp_path / report, url, fixed) as process:
            _, told = process.communicate(timeout=60)
        assert process.returncode == 0, told
    assert (tmp_path / "second").read_text() == (tmp_path / "first").read_text()


@pytest.mark.parametrize("mode", [0o555, 0o000], ids=["read-only", "closed"])
def test_a_directory_of_someone_else_is_said_with_the_user_who_needs_it(
    make_server: Callable[..., Server], directory: Path, settings: SourceSettings, mode: int
) -> None:
    chosen = replace(settings, cache=directory, hf_endpoint=make_server(hf_hub({NAME: WEIGHTS})).url)
    files = open_model("hf://acme/tiny", COMMIT, base=Path(), secrets=Secrets(environ={}), settings=chosen)
    directory.chmod(mode)
    with nobody_special() as user, pytest.raises(SourceError, match=f"by user {user}: Permission denied") as caught:
        fetch(files, [NAME], directory, Silent())
    assert caught.value.failure is FailureClass.VOLUME_FAILED
    assert f"chown -R {user}" in caught.value.remedy


def test_headers_that_another_user_keeps_are_read_anew(directory: Path) -> None:
    store = HeaderStore(directory, parse_uri("hf://acme/tiny", Path()))
    store.remember(None, COMMIT, [FileEntry(NAME, 4)])
    store.keep(COMMIT, NAME, 0, b"GGUF")
    assert store.covered(COMMIT, NAME, 0, 4) == b"GGUF"
    directory.chmod(0o000)
    with nobody_special():
        assert store.revision_of(None) is None
        assert store.covered(COMMIT, NAME, 0, 4) is None


def test_a_container_that_cannot_write_leaves_its_class_in_the_report(
    make_server: Callable[..., Server], tmp_path: Path
) -> None:
    hub, cache = make_server(hf_hub({NAME: WEIGHTS})), tmp_path / "cache"
    cache.write_text("no directory")
    with started("hf://acme/tiny", cache, tmp_path / "report", hub.url) as process:
        _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert FailureRecord.from_json((tmp_path / "report").read_text()).failure is FailureClass.VOLUME_FAILED
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("replaced", "failure"), [(True, FailureClass.MODEL_CHANGED), (False, FailureClass.MODEL_NOT_FOUND)]
)
def test_a_container_whose_source_has_something_else_now_says_so_at_once(
    make_server: Callable[..., Server], tmp_path: Path, replaced: bool, failure: FailureClass
) -> None:
    """The operator then reads the model anew: these two classes are its sign, and no retry of the same can help."""
    planned = "c0ffee" * 6 + "c0ff"
    server = make_server(lambda request: file_reply(request, WEIGHTS, {"ETag": '"2"'}) if replaced else Reply(404))
    uri = f"{server.url}/{NAME}"
    with started(uri, tmp_path / "cache", tmp_path / "report", revision=f"--revision={planned}") as process:
        process.communicate(timeout=60)
    record = FailureRecord.from_json((tmp_path / "report").read_text())
    assert (process.returncode, record.failure) == (1, failure)
