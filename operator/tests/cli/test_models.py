"""`llmservice models`: what is kept, and that nothing goes which somebody uses."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from llmservice_cli.commands import models
from llmservice_cli.local.client import Control
from llmservice_cli.local.room import Room
from llmservice_cli.main import main
from llmservice_cli.places import Places
from llmservice_runtime.contract.in_use import held, mark, mark_of

DAY = 86400.0


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMSERVICE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("LLMSERVICE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    for name, days in (("old", 40), ("served", 50), ("loaded", 60), ("fresh", 0)):
        folder = tmp_path / "cache/models/hf" / f"acme--{name}" / "c0ffee00c0ffee00"
        folder.mkdir(parents=True)
        (folder / "model.gguf").write_bytes(b"x" * (1 << 20))
        mark(folder, f"hf://acme/{name}")
        used = time.time() - days * DAY
        os.utime(mark_of(folder), (used, used))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def instance(monkeypatch: pytest.MonkeyPatch) -> None:
    """One service is served, at zero replicas: nothing holds its model."""
    metadata = {"namespace": "default", "name": "mine"}
    status = {"model": {"resolvedRevision": "c0ffee00c0ffee00"}}
    service: dict[str, Any] = {"metadata": metadata, "spec": {"model": {"uri": "hf://acme/served"}}, "status": status}
    monkeypatch.setattr(Control, "snapshot", lambda self: {"services": [{"object": service}]})


def test_what_a_service_of_another_instance_has_stays(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a state folder of its own, and at zero replicas: nobody holds its model."""
    other = {
        "metadata": {"namespace": "default", "name": "theirs"},
        "spec": {"model": {"uri": "hf://acme/old"}},
        "status": {"model": {"resolvedRevision": "c0ffee00c0ffee00"}},
    }
    served = {tmp_path / "state": [], tmp_path / "elsewhere": [{"object": other}]}
    monkeypatch.setattr(Control, "snapshot", lambda self: {"services": served[self._state]})
    announced = Room().announce(tmp_path / "elsewhere")
    assert main(["models", "prune"]) == 0
    assert there(cache) == ["fresh", "old"]
    announced.release()
    assert main(["models", "prune"]) == 0
    assert there(cache) == ["fresh"]
    capsys.readouterr()


def there(cache: Path) -> list[str]:
    return sorted(
        folder.name.removeprefix("acme--") for folder in (cache / "models/hf").iterdir() if any(folder.glob("c*"))
    )


def test_models_are_listed_with_size_last_use_and_user(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with held(cache / "models/hf/acme--loaded/c0ffee00c0ffee00"):
        assert main(["models"]) == 0
        lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
        assert "1 MiB" in lines["hf://acme/old"] and lines["hf://acme/old"].endswith("-")
        assert lines["hf://acme/served"].endswith("default/mine")
        assert lines["hf://acme/loaded"].endswith("another process")
        assert main(["models", "-o", "json"]) == 0
    (old,) = (entry for entry in json.loads(capsys.readouterr().out) if entry["uri"] == "hf://acme/old")
    assert (old["bytes"], old["complete"], old["usedBy"], old["inUse"]) == (1 << 20, True, [], False)


def test_pruning_takes_what_nothing_used_for_so_long(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with held(cache / "models/hf/acme--loaded/c0ffee00c0ffee00"):
        assert main(["models", "prune", "--dry-run"]) == 0
        assert "would remove hf://acme/old@c0ffee00c0ffee00" in capsys.readouterr().out
        assert main(["models", "prune", "--unused-for", "45d"]) == 0
        assert len(there(cache)) == 4
        assert main(["models", "prune", "--unused-for", "30d"]) == 0
        assert there(cache) == ["fresh", "loaded", "served"]
        said = capsys.readouterr().out
        assert "1 MiB were freed" in said
        assert "1 that nothing uses now were used in the last 30d: llmservice models rm hf://acme/fresh" in said


def test_one_is_removed_by_name_unless_somebody_uses_it(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "rm", "hf://acme/old@c0ffee00", "hf://acme/fresh"]) == 0
    assert there(cache) == ["loaded", "served"]
    assert main(["models", "rm", "hf://acme/served"]) == 1
    assert "is the model of default/mine" in capsys.readouterr().err
    with held(cache / "models/hf/acme--loaded/c0ffee00c0ffee00/model.gguf"):
        assert main(["models", "rm", "hf://acme/loaded"]) == 1
    assert "in use" in capsys.readouterr().err
    assert there(cache) == ["loaded", "served"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rm"], "required: MODEL"),
        (["rm", "hf://acme/old", "hf://acme/ol"], "there is no model hf://acme/ol"),
        (["rm", "--unused-for", "1d", "hf://acme/old"], "unrecognized arguments"),
        (["list", "--dry-run"], "unrecognized arguments"),
        (["prune", "x"], "unrecognized arguments"),
        (["prune", "--unused-for", "soon"], "no time"),
        (["prune", "--unused-for", "9m"], "Write 10m or more"),
        (["-o", "json", "prune"], "has no -o"),
    ],
)
def test_what_makes_no_sense_is_refused(
    cache: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", *words]) in (1, 2)
    told = capsys.readouterr()
    assert said in told.err + told.out
    assert len(there(cache)) == 4


def test_options_stand_anywhere_and_what_is_named_twice_is_one(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "rm", "--dry-run", "hf://acme/old", "hf://acme/old@c0ffee"]) == 0
    assert capsys.readouterr().out == "would remove hf://acme/old@c0ffee00c0ffee00 (1 MiB)\n"
    for words in (["-o", "json"], ["-o", "json", "list"], ["list", "-o", "json"]):
        assert main(["models", *words]) == 0
        assert len(json.loads(capsys.readouterr().out)) == 4


def test_the_beginning_of_two_revisions_names_none(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cache / "models/hf/acme--old/c0decafe").mkdir()
    assert main(["models", "rm", "hf://acme/old@c0"]) == 1
    assert "may be any of" in capsys.readouterr().err
    assert main(["models", "rm", "hf://acme/old@c0d"]) == 0
    assert len(there(cache)) == 4


def test_a_mark_that_a_bad_disk_left_hides_no_other_model(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mark_of(cache / "models/hf/acme--old/c0ffee00c0ffee00").write_bytes(b"\xff\xfe")
    assert main(["models"]) == 0
    assert "hf://acme/fresh" in capsys.readouterr().out


def test_times() -> None:
    assert [models.duration(text) for text in ("90s", "2h", "30d", "0s")] == [90, 7200, 30 * DAY, 0]


def test_a_version_in_a_folder_of_its_own_goes_alone(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = cache / "models/hf/acme--old/c0ffee00c0ffee00"
    shards = [folder / f"Q4_K_M/old-Q4_K_M-0000{number}-of-00002.gguf" for number in (1, 2)]
    for path in (*shards, folder / "Q8_0/old-Q8_0.gguf"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"GGUF")
    assert main(["rm", "acme/old:Q4_K_M"]) == 0
    assert sorted(path.name for path in folder.rglob("*.gguf")) == ["model.gguf", "old-Q8_0.gguf"]


def test_a_version_of_what_has_none_is_told(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cache / "models/hf/acme--old/c0ffee00c0ffee00/model.gguf").rename(cache / "model.safetensors")
    assert main(["rm", "acme/old:Q4_K_M"]) == 1
    assert "hf://acme/old has no GGUF models, so no Q4_K_M of one." in capsys.readouterr().err


def test_files_of_a_quantization_go_though_another_one_is_served(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder has the files that patterns chose, one has all of them."""
    uri, commit = "hf://acme/many", "c0ffee00c0ffee00"
    for name, files in (("", "ab"), ("+1111aaaa", "a"), ("+2222bbbb", "b")):
        folder = cache / "models/hf/acme--many" / f"{commit}{name}"
        folder.mkdir(parents=True)
        for file, quantization in zip(files, ("Q4_K_M" if files[0] == "a" else "Q8_0", "Q8_0"), strict=False):
            (folder / f"{file}-{quantization}.gguf").write_bytes(b"x")
        mark(folder, uri)
    model = {"uri": uri, "include": ["*q8_0*.gguf"]}
    status = {"model": {"resolvedRevision": commit}}
    served = [{"object": {"metadata": {"namespace": "x", "name": "y"}, "spec": {"model": model}, "status": status}}]
    monkeypatch.setattr(Control, "snapshot", lambda self: {"services": served})
    places = Places.from_environment()

    def left() -> list[str]:
        return sorted(path.name for path in (cache / "models/hf/acme--many").glob("*/*.gguf"))

    models.forget(uri, ["*q4_k_m*.gguf"], places)
    assert left() == ["b-Q8_0.gguf", "b-Q8_0.gguf"]
    models.forget(uri, ["*q8_0*.gguf"], places)
    assert len(left()) == 2, "a service has them"
    del model["include"]
    models.forget(uri, ["*q8_0*.gguf"], places)
    assert len(left()) == 2, "and one that has all of them"
    served.clear()
    models.forget(uri, ["*q8_0*.gguf"], places)
    assert left() == []
