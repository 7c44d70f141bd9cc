"""What a cache keeps, and how models go that nobody uses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llmservice_runtime.cli import main
from llmservice_runtime.contract.in_use import held, mark, mark_of
from llmservice_runtime.prepare.run import LISTED_SECONDS
from llmservice_runtime.sources.cache import lock_path, try_lock
from llmservice_runtime.sources.download import RESERVE_BYTES, fetch
from llmservice_runtime.sources.errors import SourceError
from llmservice_runtime.sources.kept import Kept, forget, is_in_use, kept_models, prune, remove, want, wanted_by
from llmservice_runtime.sources.open import open_model
from llmservice_runtime.sources.progress import Silent
from llmservice_runtime.sources.room import Room
from llmservice_runtime.sources.secrets import Secrets
from llmservice_runtime.sources.settings import SourceSettings
from tests.sources.servers import Server, file_reply, hf_hub

Make = Callable[..., Server]


@pytest.fixture
def cache(settings: SourceSettings) -> Path:
    assert settings.cache is not None
    return settings.cache


def put(cache: Path, name: str, used: float, uri: str = "hf://acme/tiny") -> Path:
    folder = cache / "models/hf/acme--tiny" / name
    folder.mkdir(parents=True)
    (folder / "f").write_bytes(b"x" * 100)
    mark(folder, uri)
    os.utime(mark_of(folder), (used, used))
    return folder


def gone(cache: Path, before: float, *spared: str) -> list[str]:
    return [kept.revision for kept, _ in prune(kept_models(cache), before, lambda kept: kept.revision in spared)]


def test_the_longest_unused_go_first_and_what_is_used_or_spared_stays(cache: Path) -> None:
    folders = {name: put(cache, name, used) for used, name in enumerate(("a", "b", "c", "d", "e"), 1000)}
    with held(folders["b"] / "f") as mine, try_lock(lock_path(folders["c"])) as locked:
        assert mine and locked
        assert gone(cache, 1004, "d") == ["a"]
    assert gone(cache, 1004) == ["c", "d"], "b was used a moment ago"
    assert sorted(kept.revision for kept in kept_models(cache)) == ["b", "e"]
    assert not mark_of(folders["a"]).exists()


def test_chosen_files_are_a_model_of_their_own_to_be_pruned(cache: Path) -> None:
    """One goes and the other keeps what both have; what is to be spared of a revision is all of it."""
    whole, chosen = put(cache, "c0ffee", 1000), put(cache, "c0ffee+12345678", 1001)
    (chosen / "f").unlink()
    (chosen / "f").hardlink_to(whole / "f")
    (chosen / "own").write_bytes(b"x" * 7)
    assert [(kept.revision, kept.commit) for kept in kept_models(cache)] == [
        ("c0ffee", "c0ffee"),
        ("c0ffee+12345678", "c0ffee"),
    ]
    want(chosen, "apps/one")
    assert [wanted_by(kept) for kept in kept_models(cache)] == [[], ["apps/one"]]
    Room(cache, "apps/two", ("c0ffee",), clock=lambda: 1e6).make(cache, 1 << 62)
    assert whole.exists() and chosen.exists(), "--keep spares both"
    with held(whole / "f"):
        freed = {kept.revision: size for kept, size in prune(kept_models(cache), 2000, lambda _: False)}
    assert freed == {"c0ffee+12345678": 7}, "what has another name frees nothing"
    assert (whole / "f").read_bytes() == b"x" * 100


def test_services_that_are_gone_are_forgotten_once_nobody_can_be_overlooked(cache: Path) -> None:
    folder = put(cache, "c0ffee", 1000)
    for name in ("apps/mine", "apps/gone", "apps/new", "other/gone"):
        folder.with_name(f".c0ffee.wanted.{name.replace('/', '.')}").touch()
    for name, made in (("gone", 1000), ("mine", 1000), ("new", 3000)):
        os.utime(folder.with_name(f".c0ffee.wanted.apps.{name}"), (made, made))
    os.utime(folder.with_name(".c0ffee.wanted.other.gone"), (1000, 1000))
    forget(cache, "apps", ("mine",), 2000)
    (kept,) = kept_models(cache)
    assert wanted_by(kept) == ["apps/mine", "apps/new", "other/gone"], "nothing is known of other namespaces"


def test_a_download_that_was_given_up_is_listed_and_goes(cache: Path) -> None:
    partial = cache / "models/hf/acme--tiny/.rev.partial"
    partial.mkdir(parents=True)
    (partial / "f.part").write_bytes(b"x" * 50)
    (kept,) = kept_models(cache)
    assert (kept.revision, kept.size, kept.whole, kept.uri) == ("rev", 50, False, "hf://acme/tiny")
    assert remove(kept) == 50 and kept_models(cache) == []


def test_what_a_crash_left_of_a_removal_goes_with_the_next(cache: Path) -> None:
    folder = put(cache, "a", 1000)
    folder.rename(folder.with_name(".a.trash"))
    assert gone(cache, 2000) == ["a"]
    assert not list(cache.rglob("f"))


def test_models_are_listed_while_another_process_removes_some(cache: Path) -> None:
    put(cache, "old", 1.0)
    ended = threading.Event()

    def churn() -> None:
        while not ended.is_set():
            for part in ("a", "b", "c", "d"):
                (cache / "models/hf/acme--tiny/gone" / part).mkdir(parents=True)
            shutil.rmtree(cache / "models/hf/acme--tiny/gone")

    other = threading.Thread(target=churn)
    other.start()
    try:
        for _ in range(500):
            assert "old" in [kept.revision for kept in kept_models(cache)]
    finally:
        ended.set()
        other.join()


def test_a_mark_is_held_where_the_cache_can_be_read_alone(cache: Path) -> None:
    folder = put(cache, "a", 1000)
    mark_of(folder).chmod(0o444)
    program = f"""
import sys
from pathlib import Path
from llmservice_runtime.contract.in_use import held
with held(Path({str(folder)!r})) as mine:
    print(mine, flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == "True\n"
        (kept,) = kept_models(cache)
        assert is_in_use(kept) and remove(kept) is None
        child.kill()
        child.wait()
        assert remove(kept) == 100


@pytest.fixture
def disk(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache is on a disk of RESERVE_BYTES and 500 bytes."""
    total = RESERVE_BYTES + 500

    def usage(path: Path) -> object:
        used = sum(file.stat().st_size for file in cache.rglob("f*") if file.is_file())
        return shutil._ntuple_diskusage(total, used, total - used)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    return cache


def test_room_is_made_of_what_nobody_uses_and_of_no_more_than_is_needed(disk: Path) -> None:
    for used, name in enumerate(("run", "other", "kept", "mine", "next"), 1000):
        put(disk, name, used)
    root = disk / "models/hf/acme--tiny"
    want(root / "other", "apps/other")
    want(root / "mine", "apps/mine")
    room = Room(disk, "apps/mine", ("kept",), clock=lambda: 10_000.0)
    with held(root / "run"):
        room.make(root / "new", RESERVE_BYTES + 100)
        assert sorted(kept.revision for kept in kept_models(disk)) == ["kept", "next", "other", "run"]
        room.make(root / "new", RESERVE_BYTES + 500)
        assert sorted(kept.revision for kept in kept_models(disk)) == ["kept", "other", "run"]


def test_a_download_makes_room_for_itself_and_spares_what_was_brought_a_moment_ago(
    make_server: Make, disk: Path, settings: SourceSettings, no_secrets: Secrets
) -> None:
    server = make_server(lambda request: file_reply(request, b"x" * 200, {"ETag": '"1"'}))
    put(disk, "old", 1000)
    put(disk, "fresh", time.time())
    (disk / "f").write_bytes(b"x" * 200)
    files = open_model(f"{server.url}/f.gguf", None, base=Path(), secrets=no_secrets, settings=settings)
    with pytest.raises(SourceError, match="disk is full"):
        fetch(files, ["f.gguf"], disk, Silent())
    folder = fetch(files, ["f.gguf"], disk, Silent(), room=Room(disk))
    assert (folder / "f.gguf").stat().st_size == 200
    assert [kept.revision for kept in kept_models(disk)][-2:] == ["fresh", folder.name]


def test_a_service_has_one_model_of_a_cache(cache: Path) -> None:
    first, second = put(cache, "a", 1000), put(cache, "b", 2000)
    for service in ("apps/x", "apps/y"):
        want(first, service)
    want(second, "apps/x")
    assert [wanted_by(kept) for kept in kept_models(cache)] == [["apps/y"], ["apps/x"]]


def test_a_path_outside_of_caches_is_held_by_nobody(tmp_path: Path) -> None:
    with held(tmp_path / "model.gguf") as mine:
        assert not mine


def test_a_fetched_model_tells_its_uri_and_when_it_was_used(
    make_server: Make, cache: Path, settings: SourceSettings, no_secrets: Secrets
) -> None:
    server = make_server(lambda request: file_reply(request, b"GGUF1234", {"ETag": '"1"'}))
    files = open_model(f"{server.url}/a.gguf?sig=secret", None, base=Path(), secrets=no_secrets, settings=settings)
    for _ in range(2):
        folder = fetch(files, ["a.gguf"], cache, Silent())
        (kept,) = kept_models(cache)
        assert kept == Kept(folder, f"{server.url}/a.gguf?...", 8, mark_of(folder).stat().st_mtime, True)
        os.utime(mark_of(folder), (1000, 1000))


def test_a_download_forgets_the_services_that_are_gone(
    make_server: Make, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gguf = (Path(__file__).parents[2] / "demo/model/demo-Q4_K_M.gguf").read_bytes()
    monkeypatch.setenv("HF_ENDPOINT", make_server(hf_hub({"demo-Q4_K_M.gguf": gguf})).url)
    old = put(cache, "c0ffee", 1000, "hf://acme/old")
    want(old, "apps/gone")
    want(old, "apps/sleeps")
    day = time.time() - 2 * LISTED_SECONDS
    for service in ("gone", "sleeps"):
        os.utime(old.with_name(f".c0ffee.wanted.apps.{service}"), (day, day))
    arguments = ["prepare", "--uri=hf://acme/tiny", f"--cache={cache}", f"--report={cache.parent / 'report'}"]
    arguments += ["--fetch", "--allow-private", "--service=apps/mine"]
    assert main(arguments) == 0
    (kept,) = (kept for kept in kept_models(cache) if kept.folder == old)
    assert wanted_by(kept) == ["apps/gone", "apps/sleeps"], "it was not told who is there"
    assert main([*arguments, "--services=mine,sleeps"]) == 0
    assert wanted_by(kept) == ["apps/sleeps"]
