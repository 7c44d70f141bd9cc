"""The cache: one downloader at a time, a full disk, atomic publishing, offline planning."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.sources.cache import try_lock
from llmservice_runtime.sources.download import fetch
from llmservice_runtime.sources.errors import SourceError
from llmservice_runtime.sources.files import Source
from llmservice_runtime.sources.open import open_model
from llmservice_runtime.sources.progress import Bar, Lines, Silent, progress_for
from llmservice_runtime.sources.secrets import Secrets
from llmservice_runtime.sources.settings import SourceSettings
from tests.sources.servers import COMMIT, Server, hf_hub, noise

WEIGHTS = noise(400_000)
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS, "other.gguf": noise(2000, 3)}
RESOLVE = f"/acme/tiny/resolve/{COMMIT}/model.safetensors"
Make = Callable[..., Server]


@pytest.fixture
def hub(make_server: Make) -> Server:
    return make_server(hf_hub(FILES))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def opened(server: Server, settings: SourceSettings, revision: str | None = None) -> Source:
    chosen = replace(settings, hf_endpoint=server.url)
    return open_model("hf://acme/tiny", revision, base=Path(), secrets=Secrets(environ={}), settings=chosen)


PROGRAM = """
import sys
from pathlib import Path
from llmservice_runtime.sources.download import fetch
from llmservice_runtime.sources.open import open_model
from llmservice_runtime.sources.progress import progress_for
from llmservice_runtime.sources.secrets import Secrets
from llmservice_runtime.sources.settings import SourceSettings
url, cache = sys.argv[1], Path(sys.argv[2])
files = open_model("hf://acme/tiny", None, base=Path(), secrets=Secrets(environ={}),
                   settings=SourceSettings(cache=cache, hf_endpoint=url))
print(fetch(files, ["model.safetensors"], cache, progress_for()))
"""


def test_two_processes_download_once_and_the_second_shows_that_it_waits(hub: Server, cache: Path) -> None:
    """The server holds the first download until the second process has said that it waits."""
    waits = threading.Event()
    asked = threading.Event()

    def hold(request: object) -> None:
        if getattr(request, "path", "") == RESOLVE:
            asked.set()
            assert waits.wait(30)

    hub.before = hold
    command = [sys.executable, "-c", PROGRAM, hub.url, str(cache)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
        assert asked.wait(30)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as second:
            assert second.stderr
            line = second.stderr.readline()
            waits.set()
            outputs = [process.communicate(timeout=30) for process in (first, second)]
    assert f"process {first.pid} on {socket.gethostname()} is downloading it and has 0 B of " in line
    assert outputs[0][0] == outputs[1][0]
    assert (Path(outputs[0][0].strip()) / "model.safetensors").read_bytes() == WEIGHTS
    assert sum(r.path == RESOLVE for r in hub.requests) == 1


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / ".rev.lock"
    code = (
        "import sys,time,pathlib; from llmservice_runtime.sources.cache import try_lock\n"
        "with try_lock(pathlib.Path(sys.argv[1])) as mine: print(mine, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "True\n"
        with try_lock(path) as mine:
            assert not mine
        holder.kill()
        holder.wait()
    with try_lock(path) as mine:
        assert mine


def test_too_little_space_is_said_before_the_first_byte(
    hub: Server, settings: SourceSettings, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = opened(hub, settings)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 64 << 20))
    with pytest.raises(SourceError, match=r"needs 65 MiB more and has 64 MiB free") as caught:
        fetch(files, ["model.safetensors"], cache, Silent())
    assert caught.value.failure is FailureClass.DISK_FULL
    assert str(cache / "models/hf/acme--tiny") in caught.value.reason
    assert not any(r.path == RESOLVE for r in hub.requests)


def test_a_disk_that_fills_up_while_downloading_is_named(hub: Server, settings: SourceSettings, cache: Path) -> None:
    """/dev/full stands in for the partial file: the kernel answers ENOSPC to its writes."""
    part = cache / "models/hf/acme--tiny" / f".{COMMIT}.partial/model.safetensors.part"
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    with pytest.raises(SourceError, match="disk is full") as caught:
        fetch(opened(hub, settings), ["model.safetensors"], cache, Silent())
    assert caught.value.failure is FailureClass.DISK_FULL


def test_a_cache_that_is_a_file_is_said_without_a_traceback(hub: Server, settings: SourceSettings, cache: Path) -> None:
    files = opened(hub, replace(settings, cache=None))
    cache.write_text("not a folder")
    with pytest.raises(SourceError, match="LLMSERVICE_CACHE_DIR"):
        fetch(files, ["model.safetensors"], cache, Silent())


def test_nothing_is_published_until_all_is_there(hub: Server, settings: SourceSettings, cache: Path) -> None:
    target = cache / "models/hf/acme--tiny" / COMMIT
    seen: list[bool] = []
    hub.before = lambda request: seen.append(target.exists())
    folder = fetch(opened(hub, settings), list(FILES), cache, Silent())
    assert folder == target
    assert not any(seen)
    assert sorted(p.name for p in target.iterdir()) == sorted(FILES)


def test_more_files_of_a_published_revision_are_added(hub: Server, settings: SourceSettings, cache: Path) -> None:
    files = opened(hub, settings)
    fetch(files, ["config.json"], cache, Silent())
    folder = fetch(files, ["config.json", "other.gguf"], cache, Silent())
    assert (folder / "other.gguf").read_bytes() == FILES["other.gguf"]
    assert sum(r.path.endswith("/config.json") for r in hub.requests) == 1


def test_chosen_files_stand_alone_and_what_is_there_already_is_not_downloaded(
    hub: Server, settings: SourceSettings, cache: Path
) -> None:
    """An engine that is pointed at a folder loads all of it: another service's choice must not stand beside."""
    files = opened(hub, settings)
    whole = fetch(files, ["config.json", "model.safetensors"], cache, Silent())
    chosen = fetch(files, ["other.gguf", "config.json"], cache, Silent(), chosen_by=("o*", "*.json"))
    assert sorted(found.name for found in whole.iterdir()) == ["config.json", "model.safetensors"]
    assert sorted(found.name for found in chosen.iterdir()) == ["config.json", "other.gguf"]
    assert (chosen / "config.json").samefile(whole / "config.json")
    again = fetch(opened(hub, settings), ["config.json", "other.gguf"], cache, Silent(), chosen_by=("*.JSON", "o*"))
    assert chosen == again
    asked = len(hub.requests)
    again = fetch(files, ["other.gguf"], cache, Silent(), chosen_by=("*",))
    assert again not in (whole, chosen) and (again / "other.gguf").samefile(chosen / "other.gguf")
    assert len(hub.requests) == asked, "it is on the disk"


def test_another_name_is_given_only_to_what_is_whole(hub: Server, settings: SourceSettings, cache: Path) -> None:
    files = opened(hub, settings)
    whole = fetch(files, ["model.safetensors"], cache, Silent())
    (whole / "model.safetensors").write_bytes(b"short")
    chosen = fetch(files, ["model.safetensors"], cache, Silent(), chosen_by=("*",))
    assert (chosen / "model.safetensors").read_bytes() == WEIGHTS


def test_a_file_system_without_links_downloads(
    hub: Server, settings: SourceSettings, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = opened(hub, settings)
    fetch(files, ["model.safetensors"], cache, Silent())

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    chosen = fetch(files, ["model.safetensors"], cache, Silent(), chosen_by=("*",))
    assert (chosen / "model.safetensors").read_bytes() == WEIGHTS


def test_a_file_cut_in_the_cache_is_fetched_again(hub: Server, settings: SourceSettings, cache: Path) -> None:
    files = opened(hub, settings)
    folder = fetch(files, ["model.safetensors"], cache, Silent())
    (folder / "model.safetensors").write_bytes(b"short")
    fetch(files, ["model.safetensors"], cache, Silent())
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_an_unknown_file_is_named(hub: Server, settings: SourceSettings, cache: Path) -> None:
    with pytest.raises(SourceError, match=r"nope\.gguf"):
        fetch(opened(hub, settings), ["nope.gguf"], cache, Silent())


def test_what_was_read_once_is_read_offline(
    hub: Server, settings: SourceSettings, caplog: pytest.LogCaptureFixture
) -> None:
    online = opened(hub, settings)
    head = online.read("model.safetensors", 0, 1000)
    online.read("model.safetensors", 1000, 500)
    gone = Server("http://127.0.0.1:9", 9)
    offline = opened(gone, settings)
    assert offline.revision == COMMIT
    assert offline.entries() == online.entries()
    assert offline.read("model.safetensors", 0, 1000) == head
    assert offline.read("model.safetensors", 900, 300) == WEIGHTS[900:1200]
    assert "can't be reached" in caplog.text
    with pytest.raises(SourceError) as caught:
        offline.read("model.safetensors", 2000, 100)
    assert caught.value.failure is FailureClass.HUB_UNREACHABLE


def test_what_was_fetched_is_read_offline_and_fetched_again_without_a_request(
    hub: Server, settings: SourceSettings, cache: Path
) -> None:
    fetch(opened(hub, settings), ["model.safetensors"], cache, Silent())
    offline = opened(Server("http://127.0.0.1:9", 9), replace(settings, offline=True))
    assert offline.read("model.safetensors", 300_000, 10) == WEIGHTS[300_000:300_010]
    assert (fetch(offline, ["model.safetensors"], cache, Silent()) / "model.safetensors").exists()


def test_a_known_commit_needs_no_network_at_all(hub: Server, settings: SourceSettings) -> None:
    opened(hub, settings)
    before = len(hub.requests)
    assert opened(hub, settings, COMMIT).revision == COMMIT
    assert len(hub.requests) == before


def test_offline_and_unknown_is_said(settings: SourceSettings) -> None:
    with pytest.raises(SourceError, match="HF_HUB_OFFLINE"):
        opened(Server("http://127.0.0.1:9", 9), replace(settings, offline=True))


def test_a_damaged_header_cache_is_read_anew(hub: Server, settings: SourceSettings, cache: Path) -> None:
    opened(hub, settings).read("model.safetensors", 0, 100)
    for file in (cache / "headers").rglob("*"):
        if file.is_file():
            file.write_bytes(b"{")
    assert opened(hub, settings).read("model.safetensors", 0, 100) == WEIGHTS[:100]


def test_a_folder_is_used_in_place(tmp_path: Path, cache: Path, no_secrets: Secrets, settings: SourceSettings) -> None:
    (tmp_path / "m/.git").mkdir(parents=True)
    (tmp_path / "m/.git/x").write_text("hidden")
    (tmp_path / "m/a.gguf").write_bytes(b"GGUF1234")
    files = open_model("file://m", None, base=tmp_path, secrets=no_secrets, settings=settings)
    assert [e.path for e in files.entries()] == ["a.gguf"]
    assert files.read("a.gguf", 4, 100) == b"1234"
    assert fetch(files, ["a.gguf"], cache, Silent()) == tmp_path / "m"
    single = open_model("file://m/a.gguf", None, base=tmp_path, secrets=no_secrets, settings=settings)
    assert [e.path for e in single.entries()] == ["a.gguf"]
    assert not cache.exists()


def test_a_missing_folder_names_the_path(tmp_path: Path, no_secrets: Secrets, settings: SourceSettings) -> None:
    with pytest.raises(SourceError, match="manifest") as caught:
        open_model("file://nope", None, base=tmp_path, secrets=no_secrets, settings=settings)
    assert caught.value.failure is FailureClass.MODEL_NOT_FOUND
    with pytest.raises(SourceError, match="revision"):
        open_model("file://nope", "main", base=tmp_path, secrets=no_secrets, settings=settings)


def test_a_secrets_folder_wins_and_never_mixes_with_the_environment(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/HF_TOKEN").write_text("from-file\n")
    environ = {"HF_TOKEN": "from-env", "OCI_USERNAME": "env-user"}
    mine = Secrets("mine", tmp_path, environ)
    assert (mine.get("HF_TOKEN"), mine.get("OCI_USERNAME")) == ("from-file", None)
    assert Secrets("other", tmp_path, environ).get("HF_TOKEN") == "from-env"
    assert "from" not in repr(mine).removeprefix(f"Secrets({tmp_path}")


def test_a_log_gets_a_line_now_and_then() -> None:
    now = [0.0]
    lines: list[str] = []
    progress = Lines(lines.append, lambda: now[0])
    progress.start("m", 1000 << 20)
    for second in range(1, 26):
        now[0] = float(second)
        progress.advance(40 << 20)
    progress.finish(True)
    assert len(lines) == 4
    assert lines[1] == "m: 40%, 400.0 MiB of 1000.0 MiB, 40.0 MiB/s, 15 s left"
    assert lines[-1] == "m: downloaded 1000.0 MiB in 25 s"


def test_a_terminal_gets_a_bar_and_a_pipe_gets_lines() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, pipe = Terminal(), io.StringIO()
    bar, lines = progress_for(terminal), progress_for(pipe)
    for progress in (bar, lines):
        progress.waiting("m", "process 7 on n", 0.0, 1 << 20, 3 << 20)
        progress.start("m", 2048)
        progress.advance(2048)
        progress.finish(True)
    assert isinstance(bar, Bar)
    assert "100%" in terminal.getvalue()
    assert "m: process 7 on n is downloading it and has 1.0 MiB of 3.0 MiB; waiting\n" in pipe.getvalue()
    assert "\r" not in pipe.getvalue()


def test_importing_the_entry_is_light() -> None:
    code = (
        "import sys, llmservice_runtime.sources.open, llmservice_runtime.sources.download\n"
        "heavy = 'huggingface_hub httpx boto3 tqdm'.split()\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert result.stdout == "[]\n", result.stderr
